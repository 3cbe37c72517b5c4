// SPDX-License-Identifier: MIT
// All that a CUDA kernel needs to allocate from a device pool.
//
//     __global__ void kernel(cuda_zstd::DevicePoolRef pool) {
//         void* scratch = pool.allocate(bytes);
//         if (scratch == nullptr) return; // full: counted, nothing is lost
//         ...
//         pool.deallocate(scratch);
//     }
#pragma once

#include "cuda_zstd/device/block_allocate.hpp"
#include "cuda_zstd/device/block_scratch_frame.hpp"
#include "cuda_zstd/device/cuda_block.cuh"
#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/device/pool_ref.hpp"
#include "cuda_zstd/device/pool_vector_ref.hpp"
#include "cuda_zstd/device/scratch_frame.hpp"
#include "cuda_zstd/device/traced_heap.hpp"
#include "cuda_zstd/env/cuda_env.cuh"

#include <cooperative_groups.h>

#include <type_traits>

namespace cuda_zstd {

/// The groups of <cooperative_groups.h> that lie in one warp: tiles of at most 32 threads, coalesced groups.
template <class Group>
concept WarpGroup = requires(const Group& group) {
    group.ballot(1);
    group.shfl(0u, 0);
    group.sync();
};
template <class Group>
concept CooperativeGroup = WarpGroup<Group> || std::is_same_v<Group, cooperative_groups::thread_block>;

/// BasicPoolRef for CUDA kernels, without the environment in each call. Its members' units, costs, ordering and
/// progress are documented there, those for a thread block in block_allocate.hpp.
template <class PoolsHeap>
class DevicePoolRefOver {
public:
    DevicePoolRefOver() = default;
    /// From `device_pool.ref<cuda_env>()`, which converts.
    CUDA_ZSTD_HD DevicePoolRefOver(const BasicPoolRef<cuda_env, PoolsHeap>& ref) : ref_(ref) {}

    CUDA_ZSTD_INLINE void* allocate(std::size_t bytes, CallPlace place = CallPlace::here()) const {
        cuda_env env;
        return ref_.allocate(env, bytes, place);
    }
    CUDA_ZSTD_INLINE void* allocate(std::size_t bytes, std::uint32_t alignment,
                                    CallPlace place = CallPlace::here()) const {
        cuda_env env;
        return ref_.allocate(env, bytes, alignment, place);
    }
    CUDA_ZSTD_INLINE void* try_allocate(std::size_t bytes, std::uint32_t alignment, Status& status,
                                        CallPlace place = CallPlace::here()) const {
        cuda_env env;
        return ref_.try_allocate(env, bytes, alignment, status, place);
    }
    CUDA_ZSTD_INLINE void deallocate(void* block, CallPlace place = CallPlace::here()) const {
        cuda_env env;
        ref_.deallocate(env, block, place);
    }
    CUDA_ZSTD_INLINE Status try_deallocate(void* block, CallPlace place = CallPlace::here()) const {
        cuda_env env;
        return ref_.try_deallocate(env, block, place);
    }
    /// Every lane of the warp calls with the same size and receives the same block.
    CUDA_ZSTD_INLINE void* allocate_warp(std::size_t bytes, CallPlace place = CallPlace::here()) const {
        cuda_env env;
        return ref_.allocate_warp(env, bytes, place);
    }
    CUDA_ZSTD_INLINE void deallocate_warp(void* block, CallPlace place = CallPlace::here()) const {
        cuda_env env;
        ref_.deallocate_warp(env, block, place);
    }
    CUDA_ZSTD_INLINE std::size_t usable_size(const void* block) const {
        cuda_env env;
        return ref_.usable_size(env, block);
    }
    CUDA_ZSTD_INLINE bool owns(const void* address) const { return ref_.owns(address); }

#if defined(__CUDACC__)
    // For a cooperative group: every thread of the group calls, with the same arguments. Groups of a warp cost what
    // BasicPoolRef's forms for lanes cost; a thread block's forms contain barriers.

    /// One block of memory for the group: every thread receives the same pointer, and may use it at once.
    template <CooperativeGroup Group>
    __device__ void* allocate(const Group& group, std::size_t bytes, std::uint32_t alignment = min_slot_bytes) const {
        Status status;
        return try_allocate(group, bytes, alignment, status);
    }
    template <CooperativeGroup Group>
    __device__ void* try_allocate(const Group& group, std::size_t bytes, std::uint32_t alignment,
                                  Status& status) const {
        if constexpr (WarpGroup<Group>) {
            cuda_env env;
            return ref_.try_allocate_group(env, lanes_of(group), bytes, alignment, status);
        } else {
            __shared__ BlockBoard<cuda_env> board;
            cuda_block block;
            return block_allocate(block, ref_, board, bytes, alignment, status);
        }
    }
    /// Gives it back, after the last access of every thread of the group.
    template <CooperativeGroup Group>
    __device__ void deallocate(const Group& group, void* memory) const {
        if constexpr (WarpGroup<Group>) {
            cuda_env env;
            ref_.deallocate_group(env, lanes_of(group), memory);
        } else {
            cuda_block block;
            block_deallocate(block, ref_, memory);
        }
    }
    /// `count` blocks of `bytes` each: BasicPoolRef::allocate_many. `blocks`, in memory that all threads of the group
    /// reach, receives the pointers; returns how many there were.
    template <CooperativeGroup Group>
    __device__ std::uint32_t allocate_many(const Group& group, std::size_t bytes, std::uint32_t alignment,
                                           std::uint32_t count, void** blocks, Shortfall shortfall,
                                           Status& status) const {
        if constexpr (WarpGroup<Group>) {
            cuda_env env;
            return ref_.allocate_many(env, lanes_of(group), bytes, alignment, count, blocks, shortfall, status);
        } else {
            __shared__ BlockBoard<cuda_env> board;
            cuda_block block;
            return block_allocate_many(block, ref_, board, bytes, alignment, count, blocks, shortfall, status);
        }
    }
    template <CooperativeGroup Group>
    __device__ std::uint32_t allocate_many(const Group& group, std::size_t bytes, std::uint32_t count, void** blocks,
                                           Shortfall shortfall = Shortfall::keep) const {
        Status status;
        return allocate_many(group, bytes, min_slot_bytes, count, blocks, shortfall, status);
    }
    /// Gives back `count` blocks, nulls among them, after the last access of every thread of the group.
    template <CooperativeGroup Group>
    __device__ void deallocate_many(const Group& group, std::uint32_t count, void* const* blocks) const {
        if constexpr (WarpGroup<Group>) {
            cuda_env env;
            ref_.deallocate_many(env, lanes_of(group), count, blocks);
        } else {
            cuda_block block;
            block_deallocate_many(block, ref_, count, blocks);
        }
    }

    /// allocate and deallocate for the thread block.
    __device__ void* allocate_block(std::size_t bytes) const {
        return allocate(cooperative_groups::this_thread_block(), bytes);
    }
    __device__ void deallocate_block(void* memory) const {
        deallocate(cooperative_groups::this_thread_block(), memory);
    }
#endif

    CUDA_ZSTD_INLINE const BasicPoolRef<cuda_env, PoolsHeap>& basic() const { return ref_; }

private:
#if defined(__CUDACC__)
    /// The lanes of a group that lies in one warp.
    template <unsigned Size, class Parent>
    static __device__ LaneMask lanes_of(const cooperative_groups::thread_block_tile<Size, Parent>& tile) {
        return low_bits(Size) << (cuda_env().lane() - tile.thread_rank());
    }
    static __device__ LaneMask lanes_of(const cooperative_groups::coalesced_group& group) {
        LaneMask lanes = 0;
        for (unsigned rank = 0; rank < group.num_threads(); ++rank)
            lanes |= LaneMask{1} << group.shfl(cuda_env().lane(), rank);
        return lanes;
    }
#endif
    BasicPoolRef<cuda_env, PoolsHeap> ref_;
};

/// The handle of a device pool in a kernel's parameters.
using DevicePoolRef = DevicePoolRefOver<PoolHeap<cuda_env>>;
/// The same, with an event of each call: made by `DevicePoolEvents::ref<cuda_env>(pool, kernel)`, which converts.
using TracedDevicePoolRef = DevicePoolRefOver<TracedHeap<cuda_env>>;

/// A thread block's scratch frame in a kernel: `__shared__ BlockScratch::Storage storage;`, and in every thread
/// `cuda_block block; BlockScratch frame(block, pool.basic(), storage, bytes);`.
using BlockScratch = BlockScratchFrame<cuda_block>;

/// BasicPoolVectorRef for CUDA kernels, without the environment in each call: made by `PoolVector<T>::ref<cuda_env>()`,
/// which converts. Its members' costs, ordering and progress are documented there.
template <class T, std::uint32_t FirstCount = 0>
class PoolVectorRef {
public:
    using Basic = BasicPoolVectorRef<T, cuda_env, FirstCount>;

    PoolVectorRef() = default;
    CUDA_ZSTD_HD PoolVectorRef(const Basic& ref) : ref_(ref) {}

    CUDA_ZSTD_INLINE bool push_back(const T& value) const {
        cuda_env env;
        return ref_.push_back(env, value);
    }
    CUDA_ZSTD_INLINE std::uint32_t append(const T* values, std::uint32_t count) const {
        cuda_env env;
        return ref_.append(env, values, count);
    }
    CUDA_ZSTD_INLINE PoolVectorRange reserve(std::uint32_t count) const {
        cuda_env env;
        return ref_.reserve(env, count);
    }
    CUDA_ZSTD_INLINE std::uint64_t size() const {
        cuda_env env;
        return ref_.size(env);
    }
    CUDA_ZSTD_INLINE std::uint64_t refused() const {
        cuda_env env;
        return ref_.refused(env);
    }
    CUDA_ZSTD_INLINE T* at(std::uint64_t index) const {
        cuda_env env;
        return ref_.at(env, index);
    }
    CUDA_ZSTD_INLINE const Basic& basic() const { return ref_; }

private:
    Basic ref_;
};

} // namespace cuda_zstd
