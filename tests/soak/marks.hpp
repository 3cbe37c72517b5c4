// SPDX-License-Identifier: MIT
// Marks: the cheap stamps of a soak, at most 12 granules of 16 B in a block of up to 4 KiB, written and read whole.
//
// Invariant: each mark holds its owner's ticket, which no other block of a run has, and its place in the block. A block
// of up to 128 B is marked all over. A larger one is marked at its first and last granule, at every granule whose
// address is a multiple of its spacing (a power of two, between an eighth and a quarter of the block), and at two more
// that the ticket picks. The bytes behind the last whole granule are written too.
//
// What is found: two blocks that live at the same time and share a whole granule that both mark, since the one that was
// written first no longer holds its ticket when it is verified. That is so whenever they begin at one address, whenever
// both have at most 128 B, and whenever what they share has a granule at a multiple of the larger spacing: all marks of
// the larger block at such addresses are marks of the smaller one.
//
// What may escape: a small block that lies between two marks of one that is more than four times as large, unless the
// picked granules meet it (2 in as many as the larger has, each time it happens); an overlap in less than 16 B behind
// the last whole granule, whose bytes are compared and agree by chance once in 256 for each; a block that is verified
// and freed by its first owner before its second has written. None of them escapes for long where it happens again.
// Words are read past the first-level cache, so that nobody is shown what its own multiprocessor wrote before.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "tests/soak/blocks.hpp"

namespace cuda_zstd::soak {

struct alignas(16) Granule {
    std::uint64_t ticket, place;
};
inline constexpr std::uint32_t granule_bytes = 16;
inline constexpr unsigned most_marks = 12;
/// The largest block that is marked all over.
inline constexpr std::uint32_t most_bytes_all_over = 128;

/// Where the marks of a block are, and what they hold.
class Marks {
public:
    explicit CUDA_ZSTD_HD Marks(const Block& block)
        : ticket_(block.ticket), mixed_(mix(block.ticket)), bytes_(block.bytes) {
        if (bytes_ <= most_bytes_all_over) return;
        spacing_ = 1u << (highest_bit(bytes_ - 1u) - 2u);
        first_ = static_cast<std::uint32_t>(0u - reinterpret_cast<std::uintptr_t>(block.address)) & (spacing_ - 1u);
    }
    /// Calls `visit(offset, granule)` for each; one place may come twice.
    template <class Visit>
    CUDA_ZSTD_HD void visit(const Visit& visit) const {
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
        for (unsigned nth = 0; nth < most_marks; ++nth) {
            const std::uint32_t offset = offset_of(nth);
            if (offset + granule_bytes <= bytes_) visit(offset, Granule{ticket_, mixed_ + offset});
        }
    }
    /// The same for the bytes behind the last whole granule: 8, 4, 2 and 1 of them, as `visit(offset, word of a type)`.
    template <class Visit>
    CUDA_ZSTD_HD void visit_tail(const Visit& visit) const {
        std::uint32_t offset = bytes_ / granule_bytes * granule_bytes;
        const auto next = [&](auto word) {
            if ((bytes_ & sizeof(word)) == 0) return;
            visit(offset, word);
            offset += static_cast<std::uint32_t>(sizeof(word));
        };
        next(mixed_);
        next(static_cast<std::uint32_t>(mixed_ >> 8));
        next(static_cast<std::uint16_t>(mixed_ >> 40));
        next(static_cast<unsigned char>(mixed_ >> 56));
    }

private:
    CUDA_ZSTD_HD std::uint32_t offset_of(unsigned nth) const {
        if (bytes_ <= most_bytes_all_over) return nth * granule_bytes;
        const std::uint32_t granules = bytes_ / granule_bytes;
        if (nth == 0) return 0;
        if (nth == 1) return (granules - 1u) * granule_bytes;
        if (nth < 10) return first_ + (nth - 2u) * spacing_;
        const std::uint64_t picked = nth == 10 ? mixed_ >> 32 : mixed_ & 0xffffffffu;
        return static_cast<std::uint32_t>(picked * granules >> 32) * granule_bytes;
    }

    std::uint64_t ticket_, mixed_;
    std::uint32_t bytes_, spacing_ = 0, first_ = 0;
};

CUDA_ZSTD_HD inline Granule read_granule(const unsigned char* at) {
#if defined(__CUDA_ARCH__)
    const ulonglong2 seen = __ldcv(reinterpret_cast<const ulonglong2*>(at));
    return {seen.x, seen.y};
#else
    return *reinterpret_cast<const Granule*>(at);
#endif
}

CUDA_ZSTD_HD inline void write_marks(const Block& block) {
    const Marks marks(block);
    marks.visit([&](std::uint32_t offset, const Granule& granule) {
        *reinterpret_cast<Granule*>(block.address + offset) = granule;
    });
    marks.visit_tail(
        [&](std::uint32_t offset, auto word) { *reinterpret_cast<decltype(word)*>(block.address + offset) = word; });
}

/// Whether the block holds what write_marks() wrote; else `fault` names the first place in the order of the visits that
/// does not. Reads everything before it decides, so that the reads do not wait for each other.
CUDA_ZSTD_HD inline bool verify_marks(const Block& block, Fault& fault) {
    const Marks marks(block);
    std::uint64_t differs = 0;
    const auto see_tail = [&](std::uint32_t offset, auto word) {
        return *reinterpret_cast<const volatile decltype(word)*>(block.address + offset);
    };
    marks.visit([&](std::uint32_t offset, const Granule& granule) {
        const Granule seen = read_granule(block.address + offset);
        differs |= (seen.ticket ^ granule.ticket) | (seen.place ^ granule.place);
    });
    marks.visit_tail([&](std::uint32_t offset, auto word) { differs |= word != see_tail(offset, word) ? 1u : 0u; });
    if (differs == 0) return true;
    // Something was wrong a moment ago: what, if it still is.
    fault = {reinterpret_cast<std::uintptr_t>(block.address), block.ticket, 0, 0, differs, block.bytes};
    const auto note = [&](std::uint64_t at, std::uint64_t expected, std::uint64_t seen) {
        if (seen == expected || fault.expected != 0) return;
        fault.at = at;
        fault.expected = expected;
        fault.seen = seen;
    };
    marks.visit([&](std::uint32_t offset, const Granule& granule) {
        const Granule seen = read_granule(block.address + offset);
        note(offset, granule.ticket, seen.ticket);
        note(offset + 8u, granule.place, seen.place);
    });
    marks.visit_tail([&](std::uint32_t offset, auto word) { note(offset, word, see_tail(offset, word)); });
    return false;
}

} // namespace cuda_zstd::soak
