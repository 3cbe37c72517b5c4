// SPDX-License-Identifier: MIT
// XXH64 of a chunk with seed 0: the content checksum of a zstd frame is its low 32 bits (RFC 8878, section 3.1.1).
//
// Invariant: written from the published algorithm (Yann Collet, "xxHash fast digest algorithm", version 0.1.1); its
// four accumulators are independent, so four lanes of a warp take one each, and a warp of one takes all in turn.
#pragma once

#include "bytes.hpp"

namespace cuda_zstd::detail {

class Xxh64 {
public:
    /// The hash of `bytes` bytes, the same in every lane. All lanes of the warp call. O(bytes / 32) steps.
    template <class Env>
    CUDA_ZSTD_HD static std::uint64_t hash(Env& env, const unsigned char* data, std::uint32_t bytes, LaneMask warp) {
        const std::uint32_t stripes = bytes / 32;
        std::uint64_t result = prime_5;
        if (stripes != 0) {
            std::uint64_t lane_value[4];
            if constexpr (Env::warp_lanes >= 4) {
                const unsigned which = env.lane() & 3;
                const std::uint64_t mine = accumulate(data + 8 * which, stripes, start(which));
                for (unsigned i = 0; i < 4; ++i)
                    lane_value[i] = env.shfl(warp, mine, i);
            } else {
                std::uint64_t a = start(0), b = start(1), c = start(2), d = start(3);
                for (std::uint32_t i = 0; i < stripes; ++i) {
                    const unsigned char* const stripe = data + 32 * static_cast<std::size_t>(i);
                    a = round(a, load64(stripe));
                    b = round(b, load64(stripe + 8));
                    c = round(c, load64(stripe + 16));
                    d = round(d, load64(stripe + 24));
                }
                lane_value[0] = a, lane_value[1] = b, lane_value[2] = c, lane_value[3] = d;
            }
            result = rotate(lane_value[0], 1) + rotate(lane_value[1], 7) + rotate(lane_value[2], 12) +
                     rotate(lane_value[3], 18);
            for (unsigned i = 0; i < 4; ++i)
                result = (result ^ round(0, lane_value[i])) * prime_1 + prime_4;
        }
        result += bytes;
        std::uint32_t at = stripes * 32;
        for (; at + 8 <= bytes; at += 8)
            result = rotate(result ^ round(0, load64(data + at)), 27) * prime_1 + prime_4;
        if (at + 4 <= bytes) {
            result = rotate(result ^ load32(data + at) * prime_1, 23) * prime_2 + prime_3;
            at += 4;
        }
        for (; at < bytes; ++at)
            result = rotate(result ^ data[at] * prime_5, 11) * prime_1;
        result = (result ^ result >> 33) * prime_2;
        result = (result ^ result >> 29) * prime_3;
        return result ^ result >> 32;
    }

private:
    static constexpr std::uint64_t prime_1 = 0x9E3779B185EBCA87ull;
    static constexpr std::uint64_t prime_2 = 0xC2B2AE3D27D4EB4Full;
    static constexpr std::uint64_t prime_3 = 0x165667B19E3779F9ull;
    static constexpr std::uint64_t prime_4 = 0x85EBCA77C2B2AE63ull;
    static constexpr std::uint64_t prime_5 = 0x27D4EB2F165667C5ull;

    CUDA_ZSTD_INLINE static std::uint64_t rotate(std::uint64_t value, unsigned bits) {
        return value << bits | value >> (64 - bits);
    }
    CUDA_ZSTD_INLINE static std::uint64_t round(std::uint64_t accumulator, std::uint64_t input) {
        return rotate(accumulator + input * prime_2, 31) * prime_1;
    }
    CUDA_ZSTD_INLINE static std::uint64_t start(unsigned which) {
        return which == 0 ? prime_1 + prime_2 : which == 1 ? prime_2 : which == 2 ? 0 : 0 - prime_1;
    }
    CUDA_ZSTD_INLINE static std::uint64_t accumulate(const unsigned char* data, std::uint32_t stripes,
                                                     std::uint64_t value) {
        for (std::uint32_t i = 0; i < stripes; ++i)
            value = round(value, load64(data + 32 * static_cast<std::size_t>(i)));
        return value;
    }
};

} // namespace cuda_zstd::detail
