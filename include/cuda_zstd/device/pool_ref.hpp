// SPDX-License-Identifier: MIT
// The handle of a device pool that goes by value into kernels.
//
// Invariant: a view of one heap, trivially copyable; it stays valid for as long as the DevicePool that gave it.
// Templated on the environment, so that one source of a kernel's algorithm runs on both backends; kernels of CUDA alone
// use DevicePoolRef (cuda_zstd_device_pool.cuh), which names the environment for them.
//
// Progress: no call waits for a warp that has not started. Calls of one size class on one processor may wait while one
// of them brings a slab for all; that wait is bounded, and then ends in null with `contended`. At a full heap null
// comes after one look at every place that may hold a slot, and is counted.
//
// Ordering: what a thread did to a block before it freed it is visible to whoever gets the bytes next. A block written
// by one lane and read by another needs the usual synchronization between the two.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

template <class Env>
class BasicPoolRef {
public:
    BasicPoolRef() = default;
    explicit CUDA_ZSTD_HD BasicPoolRef(const Heap<Env>& heap) : heap_(heap) {}

    /// One block of at least `bytes` for the calling lane, aligned to 16 B; null when no slot or run for the size
    /// exists. Any lanes of a warp may call together, each with its own size from 1 byte to the whole heap.
    /// Cost: one atomic for all lanes that want one size class, and one a lane.
    CUDA_ZSTD_HD void* allocate(Env& env, std::size_t bytes) const { return allocate(env, bytes, min_slot_bytes); }
    /// The same, aligned to a power of two of at most 64 KiB.
    CUDA_ZSTD_HD void* allocate(Env& env, std::size_t bytes, std::uint32_t alignment) const {
        Status status;
        return try_allocate(env, bytes, alignment, status);
    }
    /// The same; `status` says why a null came: full, contended (try again) or invalid.
    CUDA_ZSTD_HD void* try_allocate(Env& env, std::size_t bytes, std::uint32_t alignment, Status& status) const {
        return heap_.allocate(env, env.converged(), bytes, alignment, status);
    }

    /// Gives a block back, from any lane, warp, block, later kernel or other stream. Null has no effect; a pointer
    /// that is no live block changes nothing and is counted. Cost: one atomic a lane and one for all lanes of one slab.
    CUDA_ZSTD_HD void deallocate(Env& env, void* block) const { try_deallocate(env, block); }
    /// The same; says what was wrong with the pointer.
    CUDA_ZSTD_HD Status try_deallocate(Env& env, void* block) const {
        return heap_.deallocate(env, env.converged(), block);
    }

    /// One block for the whole warp: every lane calls with the same size and receives the same pointer.
    CUDA_ZSTD_HD void* allocate_warp(Env& env, std::size_t bytes) const {
        std::uint64_t block = 0;
        if (env.lane() == 0) {
            Status status;
            block = reinterpret_cast<std::uint64_t>(heap_.allocate(env, 1u, bytes, min_slot_bytes, status));
        }
        block = env.shfl(low_bits(Env::warp_lanes), block, 0);
        env.sync(low_bits(Env::warp_lanes));
        return reinterpret_cast<void*>(block);
    }
    /// Gives back a block of the whole warp: every lane calls with the same pointer, and has done its last access.
    CUDA_ZSTD_HD void deallocate_warp(Env& env, void* block) const {
        env.sync(low_bits(Env::warp_lanes));
        if (env.lane() == 0) heap_.deallocate(env, 1u, block);
    }

    /// Bytes that may be used at a live block; 0 when no block of this heap can begin there. Cost: one load.
    CUDA_ZSTD_HD std::size_t usable_size(Env& env, const void* block) const { return heap_.usable_size(env, block); }
    /// Whether the address lies in this heap. Cost: no access to memory.
    CUDA_ZSTD_HD bool owns(const void* address) const { return heap_.owns(address); }

    CUDA_ZSTD_INLINE const Heap<Env>& heap() const { return heap_; }

private:
    Heap<Env> heap_;
};

} // namespace cuda_zstd
