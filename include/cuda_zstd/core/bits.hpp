// SPDX-License-Identifier: MIT
// Bit arithmetic for host and device.
// Invariant: pure functions of their arguments; one instruction or a few on either side.
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <bit>
#include <cstdint>

namespace cuda_zstd {

/// Bits set in `value`.
CUDA_ZSTD_INLINE constexpr unsigned popcount(std::uint32_t value) {
#if defined(__CUDA_ARCH__)
    return static_cast<unsigned>(__popc(value));
#else
    return static_cast<unsigned>(std::popcount(value));
#endif
}

/// Index of the lowest bit set; `value` must not be 0.
CUDA_ZSTD_INLINE constexpr unsigned lowest_bit(std::uint32_t value) {
#if defined(__CUDA_ARCH__)
    return static_cast<unsigned>(__ffs(static_cast<int>(value))) - 1u;
#else
    return static_cast<unsigned>(std::countr_zero(value));
#endif
}

/// Index of the highest bit set (floor of the binary logarithm); `value` must not be 0.
CUDA_ZSTD_INLINE constexpr unsigned highest_bit(std::uint32_t value) {
#if defined(__CUDA_ARCH__)
    return 31u - static_cast<unsigned>(__clz(static_cast<int>(value)));
#else
    return 31u - static_cast<unsigned>(std::countl_zero(value));
#endif
}

/// The 32 bits of `value` from bit `shift` on, at most 31. For an index: the compiler takes a shift that is cut off for
/// a multiplication of 64 bits.
CUDA_ZSTD_INLINE std::uint32_t middle_bits(std::uint64_t value, unsigned shift) {
#if defined(__CUDA_ARCH__)
    return __funnelshift_r(static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32), shift);
#else
    return static_cast<std::uint32_t>(value >> shift);
#endif
}

/// `value` rounded up to a multiple of `unit`, a power of two.
template <class T>
CUDA_ZSTD_INLINE constexpr T round_up(T value, T unit) {
    return (value + (unit - 1)) & ~(unit - 1);
}

template <class T>
CUDA_ZSTD_INLINE constexpr bool is_power_of_two(T value) {
    return value != 0 && (value & (value - 1)) == 0;
}

/// The `count` lowest bits set; `count` at most 32.
CUDA_ZSTD_INLINE constexpr std::uint32_t low_bits(unsigned count) { return count >= 32 ? ~0u : (1u << count) - 1u; }

} // namespace cuda_zstd
