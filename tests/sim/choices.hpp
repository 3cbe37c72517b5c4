// SPDX-License-Identifier: MIT
// Where a simulated program's decisions come from: a seed, or the bytes of a fuzzer's input.
// Invariant: equal seeds and bytes give equal decisions. When the bytes are used up, the seed goes on.
#pragma once

#include "cuda_zstd/env/sim/schedule.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace cuda_zstd::test {

/// The bytes that all lanes of a program draw their calls from, in the order in which they come to draw.
struct ChoiceBytes {
    std::span<const std::uint8_t> bytes = {};
    std::size_t used = 0;
};

class Choices {
public:
    Choices(std::uint64_t seed, ChoiceBytes& bytes) : random_(seed), bytes_(&bytes) {}

    /// A number in [0, bound); bound > 0. Of a byte for bounds up to 256, of two for larger ones.
    std::uint32_t below(std::uint32_t bound) {
        if (bytes_->used >= bytes_->bytes.size()) return random_.below(bound);
        std::uint32_t drawn = bytes_->bytes[bytes_->used++];
        if (bound > 256 && bytes_->used < bytes_->bytes.size())
            drawn |= std::uint32_t{bytes_->bytes[bytes_->used++]} << 8;
        return drawn % bound;
    }

    /// Whether the next decision is a byte's.
    bool has_bytes() const { return bytes_->used < bytes_->bytes.size(); }

private:
    sim::Random random_;
    ChoiceBytes* bytes_;
};

inline constexpr unsigned mixture_count = 9;
/// The mixture of small blocks: a lane keeps many of them, so that slabs of several words of bits get full.
inline constexpr unsigned small_blocks = 8;
/// What a lane asks for: drawn from one of several mixtures, the mixture from the seed.
template <class Random>
std::size_t draw_bytes(Random& random, unsigned mixture) {
    static constexpr std::array<std::array<std::uint32_t, 4>, mixture_count> mixtures = {{
        {32768, 32768, 32768, 32768},   // two slots a page
        {20480, 20480, 32768, 16384},   // 3, 2 and 4 slots
        {8192, 16384, 65536, 65536},    // slots against runs of pages
        {64, 1024, 8192, 32768},        //
        {65536, 131072, 196608, 40000}, // runs only
        {16, 48, 2048, 65536},          //
        {16384, 16384, 16384, 65536},   // one class, now and then a page
        {24576, 28672, 32768, 131072},  // a slab for nearly every block
        {1024, 1024, 1024, 1024},       // two words of bits a page
    }};
    return mixtures[mixture][random.below(4)];
}

} // namespace cuda_zstd::test
