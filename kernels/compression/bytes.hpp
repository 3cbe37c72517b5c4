// SPDX-License-Identifier: MIT
// Bytes of the input and of the output: unaligned little-endian loads, bit counts, copies by a warp.
//
// Invariant: on the device a load of n bytes touches the aligned 4-byte words that hold them and no others, so it stays
// in any buffer whose ends are aligned to 4 bytes. On the host exactly n bytes are touched.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/env/environment.hpp"

#include <bit>
#include <cstdint>
#include <cstring>

namespace cuda_zstd::detail {

CUDA_ZSTD_INLINE std::uint32_t load32(const unsigned char* from) {
#if defined(__CUDA_ARCH__)
    const auto address = reinterpret_cast<std::uintptr_t>(from);
    const auto* const words = reinterpret_cast<const std::uint32_t*>(address & ~std::uintptr_t{3});
    const unsigned shift = static_cast<unsigned>(address & 3) * 8;
    const std::uint32_t low = words[0];
    return shift == 0 ? low : __funnelshift_r(low, words[1], shift);
#else
    std::uint32_t value;
    std::memcpy(&value, from, sizeof(value));
    return value;
#endif
}

CUDA_ZSTD_INLINE std::uint64_t load64(const unsigned char* from) {
#if defined(__CUDA_ARCH__)
    const auto address = reinterpret_cast<std::uintptr_t>(from);
    const auto* const words = reinterpret_cast<const std::uint32_t*>(address & ~std::uintptr_t{3});
    const unsigned shift = static_cast<unsigned>(address & 3) * 8;
    const std::uint32_t middle = words[1];
    const std::uint32_t last = shift == 0 ? 0 : words[2];
    const std::uint32_t low = __funnelshift_r(words[0], middle, shift);
    const std::uint32_t high = __funnelshift_r(middle, last, shift);
    return static_cast<std::uint64_t>(high) << 32 | low;
#else
    std::uint64_t value;
    std::memcpy(&value, from, sizeof(value));
    return value;
#endif
}

/// Position of the highest set bit; `value` is not 0.
CUDA_ZSTD_INLINE unsigned highest_bit(std::uint32_t value) {
#if defined(__CUDA_ARCH__)
    return 31u - static_cast<unsigned>(__clz(static_cast<int>(value)));
#else
    return 31u - static_cast<unsigned>(std::countl_zero(value));
#endif
}

/// Position of the lowest set bit; `value` is not 0.
CUDA_ZSTD_INLINE unsigned lowest_bit(std::uint32_t value) {
#if defined(__CUDA_ARCH__)
    return static_cast<unsigned>(__ffs(static_cast<int>(value))) - 1u;
#else
    return static_cast<unsigned>(std::countr_zero(value));
#endif
}

CUDA_ZSTD_INLINE unsigned lowest_bit(std::uint64_t value) {
#if defined(__CUDA_ARCH__)
    return static_cast<unsigned>(__ffsll(static_cast<long long>(value))) - 1u;
#else
    return static_cast<unsigned>(std::countr_zero(value));
#endif
}

/// Copies `bytes` bytes by all lanes of the warp; the ranges do not overlap. Aligned words are stored where the
/// destination allows it, so a long copy costs one 4-byte load pair and one store a lane for 4 x lanes bytes.
template <class Env>
CUDA_ZSTD_HD void copy_bytes(Env& env, unsigned char* to, const unsigned char* from, std::uint32_t bytes) {
    if constexpr (Env::warp_lanes == 1) {
        if (bytes != 0) std::memcpy(to, from, bytes); // an empty range may have no address
    } else {
        const std::uint32_t misaligned = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(to) & 3);
        std::uint32_t head = misaligned == 0 ? 0 : 4 - misaligned;
        if (bytes < 16 || head > bytes) head = bytes;
        for (std::uint32_t i = env.lane(); i < head; i += Env::warp_lanes)
            to[i] = from[i];
        const std::uint32_t words = (bytes - head) / 4;
        auto* const word_to = reinterpret_cast<std::uint32_t*>(to + head);
        const unsigned char* const word_from = from + head;
        for (std::uint32_t i = env.lane(); i < words; i += Env::warp_lanes)
            word_to[i] = load32(word_from + 4 * i);
        for (std::uint32_t i = head + 4 * words + env.lane(); i < bytes; i += Env::warp_lanes)
            to[i] = from[i];
    }
}

/// Whether all `bytes` bytes equal `value`; asked by all lanes of the warp, which get the same answer.
template <class Env>
CUDA_ZSTD_HD bool all_equal(Env& env, const unsigned char* from, std::uint32_t bytes, unsigned char value,
                            LaneMask warp) {
    const std::uint64_t pattern = 0x0101010101010101ull * value;
    constexpr std::uint32_t stride = 8 * Env::warp_lanes;
    std::uint32_t done = 0;
    for (; done + stride <= bytes; done += stride) {
        if (env.ballot(warp, load64(from + done + 8 * env.lane()) != pattern) != 0) return false;
    }
    bool differs = false;
    for (std::uint32_t i = done + env.lane(); i < bytes; i += Env::warp_lanes)
        differs |= from[i] != value;
    return env.ballot(warp, differs) == 0;
}

} // namespace cuda_zstd::detail
