// SPDX-License-Identifier: MIT
// The bump pointer: the cheapest allocator there is, for memory that is given back all at once.
//
// Invariant: bytes below `used` belong to somebody; a reservation that does not fit moves nothing back, so `used` may
// run past the capacity, and whoever was pushed past it got null.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/env/environment.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// A region that any lanes may take from at once.
template <class Env>
struct BumpRegion {
    template <class T>
    using atom = typename Env::template atom<T>;

    char* base;
    std::uint64_t capacity_bytes;
    atom<std::uint64_t>* used_bytes;

    /// `bytes` (rounded up to 16) for each of the lanes `lanes`, all of the same size, or null. Cost: one atomic for
    /// all of them. Orders nothing: the memory was never anybody else's since the last reset.
    CUDA_ZSTD_HD void* allocate(Env& env, LaneMask lanes, std::uint64_t bytes) const {
        bytes = round_up<std::uint64_t>(bytes, 16);
        const unsigned leader = lowest_bit(lanes);
        std::uint64_t begin = 0;
        if (env.lane() == leader) begin = env.fetch_add(*used_bytes, bytes * popcount(lanes), Order::relaxed);
        begin = env.shfl(lanes, begin, leader) + bytes * popcount(lanes & env.lanes_before());
        return begin + bytes <= capacity_bytes ? base + begin : nullptr;
    }

    /// Gives everything back. Nobody may use the region or allocate from it meanwhile.
    CUDA_ZSTD_HD void reset(Env& env) const { env.store(*used_bytes, std::uint64_t{0}, Order::relaxed); }
};

} // namespace cuda_zstd
