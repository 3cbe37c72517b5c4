// SPDX-License-Identifier: MIT
// The mask of a whole warp.
// Invariant: one bit for each lane that a warp of the environment has, and no other.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/env/environment.hpp"

namespace cuda_zstd {

/// Every lane of a warp of `Env`.
template <class Env>
inline constexpr LaneMask whole_warp = low_bits(Env::warp_lanes);

} // namespace cuda_zstd
