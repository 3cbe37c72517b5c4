// SPDX-License-Identifier: MIT
// The mask of a whole warp, and steps of lanes that mostly are one.
// Invariant: one bit for each lane that a warp of the environment has, and no other.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/env/environment.hpp"

namespace cuda_zstd {

/// Every lane of a warp of `Env`.
template <class Env>
inline constexpr LaneMask whole_warp = low_bits(Env::warp_lanes);

/// `step` with the mask `lanes`, which is a constant where it is that of a whole warp: a collective of lanes that only
/// the caller knows takes six instructions instead of one, which make sure that these are the lanes that came.
template <class Env, class Step>
CUDA_ZSTD_INLINE auto with_known_mask(LaneMask lanes, const Step& step) {
    return lanes == whole_warp<Env> ? step(whole_warp<Env>) : step(lanes);
}

} // namespace cuda_zstd
