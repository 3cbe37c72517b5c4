// SPDX-License-Identifier: MIT
// Blocks that know their owner: what a soak writes into a block, and how it finds that somebody else did.
//
// Invariant: who holds a block and how large it is are kept outside of it, in a ticket that no two blocks of a run
// share. The words at both ends of a block and at most 32 KiB apart in between are a function of the ticket and their
// place, so a block that was handed out twice, or that overlaps another, is wrong for one of its owners.
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd::soak {

/// A mixer of 64 bits; the finalizer of SplitMix64 (Steele, Lea, Flood).
CUDA_ZSTD_HD inline std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/// Numbers from a seed, one after the other.
class Random {
public:
    explicit CUDA_ZSTD_HD Random(std::uint64_t seed) : state_(seed) {}
    CUDA_ZSTD_HD std::uint64_t next() { return mix(state_++); }
    /// Below `bound`, at most 2^32.
    CUDA_ZSTD_HD std::uint32_t below(std::uint64_t bound) {
        return static_cast<std::uint32_t>((next() >> 32) * bound >> 32);
    }

private:
    std::uint64_t state_;
};

struct Block {
    unsigned char* address;
    std::uint64_t ticket;
    std::uint32_t bytes;
};

/// A place of a block that did not hold what its owner wrote, or a free that was refused.
struct Fault {
    std::uint64_t address = 0;
    std::uint64_t ticket = 0;
    std::uint64_t at = 0; ///< the word's offset; no_word: a refused free
    std::uint64_t expected = 0;
    std::uint64_t seen = 0; ///< or the status of the free
    std::uint32_t bytes = 0;
};
inline constexpr std::uint64_t no_word = ~std::uint64_t{0};

/// Calls `visit(offset)` for every word of 8 B that is stamped: all of a small block; of a larger one the 16 B at both
/// ends, and at most 16 words, or one every 32 KiB, in between. Stops, and returns false, when a visit does.
template <class Visit>
CUDA_ZSTD_HD bool visit_words(std::uint32_t bytes, const Visit& visit) {
    const std::uint32_t words = bytes / 8u;
    std::uint32_t stride = words / 16u;
    stride = stride < 1u ? 1u : stride > 4096u ? 4096u : stride;
    auto visit_from_to = [&](std::uint32_t begin, std::uint32_t end, std::uint32_t step) {
        for (std::uint32_t word = begin; word < end; word += step)
            if (!visit(std::size_t{word} * 8u)) return false;
        return true;
    };
    const std::uint32_t tail = words < 4u ? 2u : words - 2u;
    return visit_from_to(0, words < 2u ? words : 2u, 1) && visit_from_to(stride < 2u ? 2u : stride, tail, stride) &&
           visit_from_to(tail, words, 1);
}

CUDA_ZSTD_HD inline std::uint64_t stamp_of(std::uint64_t ticket, std::uint64_t offset) { return mix(ticket ^ offset); }

CUDA_ZSTD_HD inline void stamp(const Block& block) {
    visit_words(block.bytes, [&](std::size_t at) {
        *reinterpret_cast<std::uint64_t*>(block.address + at) = stamp_of(block.ticket, at);
        return true;
    });
    // The bytes behind the last whole word.
    for (std::uint32_t at = block.bytes / 8u * 8u; at < block.bytes; ++at)
        block.address[at] = static_cast<unsigned char>(stamp_of(block.ticket, at));
}

/// Whether the block holds what stamp() wrote; else `fault` says where it does not.
CUDA_ZSTD_HD inline bool verify(const Block& block, Fault& fault) {
    auto differs = [&](std::uint64_t at, std::uint64_t expected, std::uint64_t seen) {
        if (seen == expected) return false;
        fault = {reinterpret_cast<std::uintptr_t>(block.address), block.ticket, at, expected, seen, block.bytes};
        return true;
    };
    const bool whole = visit_words(block.bytes, [&](std::size_t at) {
        return !differs(at, stamp_of(block.ticket, at), *reinterpret_cast<const std::uint64_t*>(block.address + at));
    });
    if (!whole) return false;
    for (std::uint32_t at = block.bytes / 8u * 8u; at < block.bytes; ++at)
        if (differs(at, static_cast<unsigned char>(stamp_of(block.ticket, at)), block.address[at])) return false;
    return true;
}

} // namespace cuda_zstd::soak
