// SPDX-License-Identifier: MIT
// A heap of many slabs of one page each, for compactions to work on.
//
// Where several pages lie together, slabs have several. So blocks of a page each take all pages, those of even pages
// are freed, blocks of 2 KiB take these, and then the same with the odd ones: each finds single pages alone. Then most
// of the small blocks are freed: of the slabs that stay live a random part of each, of the others all.
#pragma once

#include "measure.hpp"

#include "cuda_zstd_device_pool.cuh"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"

#include <cstdint>

namespace bench {

inline constexpr std::uint32_t slab_block_bytes = 2048;
inline constexpr std::uint32_t page_bytes = 65536, blocks_per_page = page_bytes / slab_block_bytes;
inline constexpr unsigned live_percent = 84; ///< of the slabs: 104,000 of 8 GiB
inline constexpr std::size_t many_slabs_heap_bytes = std::size_t{8} << 30;

__device__ inline unsigned scatter(unsigned x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

inline __global__ void take_kernel(cuda_zstd::DevicePoolRef pool, void** blocks, unsigned count, std::uint32_t bytes,
                                   unsigned* failures) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count) return;
    blocks[thread] = pool.allocate(bytes);
    if (blocks[thread] == nullptr) atomicAdd(failures, 1u);
}

__device__ inline unsigned page_of(const void* block) {
    return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(block) / page_bytes);
}

/// Frees the blocks of a page each whose page's number modulo 2 is `odd`.
inline __global__ void free_pages_kernel(cuda_zstd::DevicePoolRef pool, void** blocks, unsigned count, unsigned odd) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count || blocks[thread] == nullptr || page_of(blocks[thread]) % 2 != odd) return;
    pool.deallocate(blocks[thread]);
    blocks[thread] = nullptr;
}

/// Frees of the pages that stay live a part that differs from page to page, of the others all but one.
inline __global__ void free_most_kernel(cuda_zstd::DevicePoolRef pool, void** blocks, unsigned count) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count || blocks[thread] == nullptr) return;
    const unsigned page = scatter(page_of(blocks[thread]));
    const unsigned kept = page % 100 < live_percent ? 1 + page / 128 % (blocks_per_page - 1) : 1;
    if (reinterpret_cast<std::uintptr_t>(blocks[thread]) / slab_block_bytes % blocks_per_page < kept) return;
    pool.deallocate(blocks[thread]);
    blocks[thread] = nullptr;
}

/// Frees the last block of the pages that do not stay live: their slabs are empty, and in lists.
inline __global__ void free_last_kernel(cuda_zstd::DevicePoolRef pool, void** blocks, unsigned count) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count || blocks[thread] == nullptr) return;
    if (scatter(page_of(blocks[thread])) % 100 < live_percent) return;
    pool.deallocate(blocks[thread]);
    blocks[thread] = nullptr;
}

inline __global__ void free_rest_kernel(cuda_zstd::DevicePoolRef pool, void** blocks, unsigned count) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < count && blocks[thread] != nullptr) pool.deallocate(blocks[thread]);
}

/// The heap, which is filled and emptied as often as one likes.
class ManySlabs {
public:
    ManySlabs()
        : pool_(cuda_zstd::MemoryPoolManager::get_instance(), many_slabs_heap_bytes),
          // Not quite all: the last pages are found only after a long search.
          pages_(pool_.layout().page_count), half_(pages_ / 2 * 97 / 100 * blocks_per_page), runs_(pages_),
          blocks_(std::size_t{2} * half_) {
        check(cudaDeviceSynchronize(), "the set-up of the pool");
    }
    cuda_zstd::DevicePool& pool() { return pool_; }
    cuda_zstd::DevicePoolRef ref() const { return pool_.ref<cuda_zstd::cuda_env>(); }

    /// False if the heap did not serve it.
    bool fill() {
        *failures_ = 0;
        take_kernel<<<grid(pages_), threads>>>(ref(), runs_.get(), pages_, page_bytes, failures_.get());
        for (unsigned odd = 0; odd < 2; ++odd) {
            free_pages_kernel<<<grid(pages_), threads>>>(ref(), runs_.get(), pages_, odd);
            take_kernel<<<grid(half_), threads>>>(ref(), blocks_.get() + odd * half_, half_, slab_block_bytes,
                                                  failures_.get());
        }
        free_most_kernel<<<grid(2 * half_), threads>>>(ref(), blocks_.get(), 2 * half_);
        free_last_kernel<<<grid(2 * half_), threads>>>(ref(), blocks_.get(), 2 * half_);
        check(cudaGetLastError(), "a kernel that fills the heap");
        check(cudaDeviceSynchronize(), "filling the heap");
        return *failures_ == 0;
    }
    void empty() {
        free_rest_kernel<<<grid(2 * half_), threads>>>(ref(), blocks_.get(), 2 * half_);
        check(cudaGetLastError(), "free_rest_kernel");
        pool_.compact(nullptr);
        check(cudaDeviceSynchronize(), "emptying the heap");
    }

private:
    static constexpr unsigned threads = 256;
    static unsigned grid(unsigned count) { return (count + threads - 1) / threads; }

    cuda_zstd::DevicePool pool_;
    const unsigned pages_, half_; ///< half of the small blocks
    DeviceArray<void*> runs_, blocks_;
    Pinned<unsigned> failures_;
};

} // namespace bench
