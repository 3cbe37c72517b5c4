// SPDX-License-Identifier: MIT
// The size classes of the device heap.
//
// Invariant: a size up to 32 KiB has exactly one class, the smallest whose slot holds it. Slots are multiples of
// 16 B: steps of 16 B to 128 B, then four steps a doubling, so that at most a fifth of a slot above 128 B is
// wasted. The geometry is that of jemalloc and of most allocators since; sizes are computed, not looked up, since a
// table would cost a kernel a load.
#pragma once

#include "cuda_zstd/core/bits.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

inline constexpr std::uint32_t page_bytes = 64u * 1024u;
inline constexpr unsigned page_shift = 16;
/// Every block of the device heap starts at a multiple of this, and no size is finer.
inline constexpr std::uint32_t min_slot_bytes = 16;
/// The largest request that a slab serves; above it, a request gets whole pages.
inline constexpr std::uint32_t max_slot_bytes = 32u * 1024u;
inline constexpr unsigned size_class_count = 40;

/// The class of a request of 1 to 32,768 bytes.
CUDA_ZSTD_INLINE constexpr unsigned size_class_of(std::uint32_t bytes) {
    if (bytes <= 128) return (bytes + 15u) / 16u - 1u;
    const unsigned exponent = highest_bit(bytes - 1u);
    const unsigned quarter = ((bytes - 1u) >> (exponent - 2u)) & 3u;
    return 8u + (exponent - 7u) * 4u + quarter;
}

/// floor(dividend / divisor) for a dividend below 2^18 and a divisor of 1 to 8. Exact: the quotient of (dividend + 1/2)
/// is at least 1/(2 divisor) from any integer, and the error below 2^-4/divisor: a reciprocal that is off by at most
/// one unit in the last place, and one rounding.
CUDA_ZSTD_INLINE std::uint32_t divide_small(std::uint32_t dividend, std::uint32_t divisor) {
#if defined(__CUDA_ARCH__)
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(static_cast<float>(divisor)));
    return __float2uint_rz((static_cast<float>(dividend) + 0.5f) * reciprocal);
#else
    return dividend / divisor;
#endif
}

/// Slot sizes are factor * 2^shift with a factor of 1 to 8: so dividing by one costs a shift and a small division.
struct SlotSize {
    std::uint32_t factor;
    std::uint32_t shift;

    static CUDA_ZSTD_INLINE constexpr SlotSize of(unsigned size_class) {
        if (size_class < 4) return {size_class + 1u, 4u};
        return {5u + size_class % 4u, 3u + size_class / 4u};
    }
    CUDA_ZSTD_INLINE constexpr unsigned size_class() const { return factor + 4u * shift - 17u; }
    CUDA_ZSTD_INLINE constexpr std::uint32_t bytes() const { return factor << shift; }
    /// Whole slots in `length_bytes`, below 4 MiB.
    CUDA_ZSTD_INLINE std::uint32_t slots_in(std::uint32_t length_bytes) const {
        return divide_small(length_bytes >> shift, factor);
    }
};

/// Bytes of a slot of the class.
CUDA_ZSTD_INLINE constexpr std::uint32_t slot_bytes_of(unsigned size_class) { return SlotSize::of(size_class).bytes(); }

/// The smallest class that holds `bytes` and whose every slot is aligned to `alignment` (a power of two up to
/// 32 KiB). Slabs start at a page, so a slot is aligned when its size is a multiple.
CUDA_ZSTD_INLINE constexpr unsigned aligned_size_class_of(std::uint32_t bytes, std::uint32_t alignment) {
    unsigned size_class = size_class_of(round_up(bytes, alignment));
    while (slot_bytes_of(size_class) % alignment != 0)
        ++size_class;
    return size_class;
}

} // namespace cuda_zstd
