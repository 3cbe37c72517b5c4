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

#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/device/pool_ref.hpp"
#include "cuda_zstd/device/scratch_frame.hpp"
#include "cuda_zstd/env/cuda_env.cuh"

namespace cuda_zstd {

/// BasicPoolRef for CUDA kernels, without the environment in each call. Its members' costs, ordering and progress are
/// documented there.
class DevicePoolRef {
public:
    DevicePoolRef() = default;
    /// From `device_pool.ref<cuda_env>()`, which converts.
    CUDA_ZSTD_HD DevicePoolRef(const BasicPoolRef<cuda_env>& ref) : ref_(ref) {}

    CUDA_ZSTD_INLINE void* allocate(std::size_t bytes) const {
        cuda_env env;
        return ref_.allocate(env, bytes);
    }
    CUDA_ZSTD_INLINE void* allocate(std::size_t bytes, std::uint32_t alignment) const {
        cuda_env env;
        return ref_.allocate(env, bytes, alignment);
    }
    CUDA_ZSTD_INLINE void* try_allocate(std::size_t bytes, std::uint32_t alignment, Status& status) const {
        cuda_env env;
        return ref_.try_allocate(env, bytes, alignment, status);
    }
    CUDA_ZSTD_INLINE void deallocate(void* block) const {
        cuda_env env;
        ref_.deallocate(env, block);
    }
    CUDA_ZSTD_INLINE Status try_deallocate(void* block) const {
        cuda_env env;
        return ref_.try_deallocate(env, block);
    }
    /// Every lane of the warp calls with the same size and receives the same block.
    CUDA_ZSTD_INLINE void* allocate_warp(std::size_t bytes) const {
        cuda_env env;
        return ref_.allocate_warp(env, bytes);
    }
    CUDA_ZSTD_INLINE void deallocate_warp(void* block) const {
        cuda_env env;
        ref_.deallocate_warp(env, block);
    }
#if defined(__CUDACC__)
    /// Every thread of the thread block calls with the same size and receives the same block of memory. Contains two
    /// barriers.
    __device__ void* allocate_block(std::size_t bytes) const {
        __shared__ void* shared;
        if (is_first_thread()) shared = allocate(bytes);
        __syncthreads();
        void* const block = shared;
        __syncthreads();
        return block;
    }
    /// Every thread of the thread block calls with the same pointer. Begins with a barrier.
    __device__ void deallocate_block(void* block) const {
        __syncthreads();
        if (is_first_thread()) deallocate(block);
    }
#endif
    CUDA_ZSTD_INLINE std::size_t usable_size(const void* block) const {
        cuda_env env;
        return ref_.usable_size(env, block);
    }
    CUDA_ZSTD_INLINE bool owns(const void* address) const { return ref_.owns(address); }

    CUDA_ZSTD_INLINE const BasicPoolRef<cuda_env>& basic() const { return ref_; }

private:
#if defined(__CUDACC__)
    static __device__ bool is_first_thread() { return threadIdx.x + threadIdx.y + threadIdx.z == 0; }
#endif
    BasicPoolRef<cuda_env> ref_;
};

} // namespace cuda_zstd
