// SPDX-License-Identifier: MIT
// A heap of many slabs of one page each, for compactions to work on.
//
// A warp whose lanes want 2 KiB each fills a page, so each warp gets a slab of its own. Then most blocks are freed: of
// the slabs that stay live a random part of each, of the others all.
#pragma once

#include "measure.hpp"

#include "cuda_zstd_device_pool.cuh"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"

#include <cstdint>

namespace bench {

inline constexpr std::uint32_t slab_block_bytes = 2048;
inline constexpr unsigned live_slabs = 100000, empty_slabs = 20000;
inline constexpr std::size_t many_slabs_heap_bytes = std::size_t{8} << 30;

__device__ inline unsigned scatter(unsigned x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

inline __global__ void take_slabs_kernel(cuda_zstd::DevicePoolRef pool, void** blocks, unsigned count,
                                         unsigned* failures) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count) return;
    blocks[thread] = pool.allocate(slab_block_bytes);
    if (blocks[thread] == nullptr) atomicAdd(failures, 1u);
}

/// Frees of the first `live` warps' blocks a part that differs from warp to warp, of the others all but one.
inline __global__ void free_most_kernel(cuda_zstd::DevicePoolRef pool, void** blocks, unsigned count, unsigned live) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count) return;
    const unsigned warp = thread / 32;
    const unsigned kept = warp < live ? 1 + scatter(warp) % 31 : 1;
    if (thread % 32 < kept) return;
    pool.deallocate(blocks[thread]);
    blocks[thread] = nullptr;
}

/// Frees the last block of all warps but the first `live`: their slabs are empty, and in lists.
inline __global__ void free_last_kernel(cuda_zstd::DevicePoolRef pool, void** blocks, unsigned count, unsigned live) {
    const unsigned warp = blockIdx.x * blockDim.x + threadIdx.x;
    if (warp < live || warp >= count / 32) return;
    pool.deallocate(blocks[warp * 32]);
    blocks[warp * 32] = nullptr;
}

inline __global__ void free_rest_kernel(cuda_zstd::DevicePoolRef pool, void** blocks, unsigned count) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < count && blocks[thread] != nullptr) pool.deallocate(blocks[thread]);
}

/// The heap, which is filled and emptied as often as one likes.
class ManySlabs {
public:
    ManySlabs() : pool_(cuda_zstd::MemoryPoolManager::get_instance(), many_slabs_heap_bytes), blocks_(count) {
        check(cudaDeviceSynchronize(), "the set-up of the pool");
    }
    cuda_zstd::DevicePool& pool() { return pool_; }
    cuda_zstd::DevicePoolRef ref() const { return pool_.ref<cuda_zstd::cuda_env>(); }

    /// False if the heap did not serve it.
    bool fill() {
        *failures_ = 0;
        take_slabs_kernel<<<grid, threads>>>(ref(), blocks_.get(), count, failures_.get());
        check(cudaGetLastError(), "take_slabs_kernel");
        free_most_kernel<<<grid, threads>>>(ref(), blocks_.get(), count, live_slabs);
        check(cudaGetLastError(), "free_most_kernel");
        free_last_kernel<<<grid / 32 + 1, threads>>>(ref(), blocks_.get(), count, live_slabs);
        check(cudaGetLastError(), "free_last_kernel");
        check(cudaDeviceSynchronize(), "filling the heap");
        return *failures_ == 0;
    }
    void empty() {
        free_rest_kernel<<<grid, threads>>>(ref(), blocks_.get(), count);
        check(cudaGetLastError(), "free_rest_kernel");
        pool_.compact(nullptr);
        check(cudaDeviceSynchronize(), "emptying the heap");
    }

private:
    static constexpr unsigned count = (live_slabs + empty_slabs) * 32, threads = 256, grid = count / threads;
    static_assert(count % threads == 0);

    cuda_zstd::DevicePool pool_;
    DeviceArray<void*> blocks_;
    Pinned<unsigned> failures_;
};

} // namespace bench
