// SPDX-License-Identifier: MIT
// A zstd sequence in 8 bytes, and the history of repeated offsets.
//
// Invariant: literal length and match length are below 2^18, the offset value below 2^20 (chunks are at most 128 KiB).
// `offset_value` is what the format codes (RFC 8878, section 3.1.1.5): 1 to 3 name a repeated offset, others are
// the distance plus 3.
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <cstdint>

namespace cuda_zstd::detail {

struct Sequence {
    std::uint64_t word;

    CUDA_ZSTD_INLINE static Sequence pack(std::uint32_t literals, std::uint32_t match, std::uint32_t offset_value) {
        return {static_cast<std::uint64_t>(offset_value) << 36 | static_cast<std::uint64_t>(match) << 18 | literals};
    }
    CUDA_ZSTD_INLINE std::uint32_t literal_length() const { return static_cast<std::uint32_t>(word) & 0x3FFFF; }
    CUDA_ZSTD_INLINE std::uint32_t match_length() const { return static_cast<std::uint32_t>(word >> 18) & 0x3FFFF; }
    CUDA_ZSTD_INLINE std::uint32_t offset_value() const { return static_cast<std::uint32_t>(word >> 36); }
};
static_assert(sizeof(Sequence) == 8);

/// The three most recent offsets. A frame starts with 1, 4 and 8.
struct RepeatedOffsets {
    std::uint32_t first = 1;
    std::uint32_t second = 4;
    std::uint32_t third = 8;

    /// The offset that value 1 stands for after `literals` literals: what a repeat of the last match costs least.
    CUDA_ZSTD_INLINE std::uint32_t cheapest(std::uint32_t literals) const { return literals != 0 ? first : second; }

    /// The value that codes `offset` after `literals` literals; the history moves on as the decoder's does.
    CUDA_ZSTD_INLINE std::uint32_t encode(std::uint32_t offset, std::uint32_t literals) {
        if (literals != 0 && offset == first) return 1;
        const std::uint32_t shift = literals != 0 ? 0 : 1;
        std::uint32_t value;
        if (offset == second) {
            value = 2 - shift;
        } else if (offset == third) {
            value = 3 - shift;
            third = second;
        } else {
            // With no literals value 3 stands for one less than the last offset.
            value = shift != 0 && offset + 1 == first ? 3 : offset + 3;
            third = second;
        }
        second = first;
        first = offset;
        return value;
    }
};

} // namespace cuda_zstd::detail
