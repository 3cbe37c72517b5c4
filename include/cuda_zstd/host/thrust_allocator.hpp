// SPDX-License-Identifier: MIT
// Temporary storage of Thrust's algorithms from a pool: thrust::cuda::par(allocator).on(stream).
//
// Invariant: what is allocated belongs to the allocator's stream, so the algorithm must run on the same one.
#pragma once

#include "cuda_zstd_memory_pool.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>

namespace cuda_zstd {

/// As Thrust wants it: bytes. Throws as MemoryPoolManager::allocate. The pool must outlive it.
class ThrustAllocator {
public:
    using value_type = char;

    explicit ThrustAllocator(MemoryPoolManager& pool, cudaStream_t stream = 0) : pool_(&pool), stream_(stream) {}

    char* allocate(std::ptrdiff_t bytes) {
        return static_cast<char*>(
            pool_->allocate(static_cast<std::size_t>(std::max<std::ptrdiff_t>(bytes, 1)), stream_));
    }
    void deallocate(char* block, std::size_t bytes) {
        (void)bytes;
        pool_->deallocate(block, stream_);
    }

private:
    MemoryPoolManager* pool_;
    cudaStream_t stream_;
};

} // namespace cuda_zstd
