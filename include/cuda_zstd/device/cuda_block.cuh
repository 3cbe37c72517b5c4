// SPDX-License-Identifier: MIT
// The thread block of a kernel.
// Invariant: stateless but for the environment, which is stateless too; cells are accessed at block scope, as shared
// memory needs. Members carry both function qualifiers because the templates that use them do; on the host they must
// not run, and trap.
#pragma once

#include "cuda_zstd/device/block_scope.hpp"
#include "cuda_zstd/env/cuda_env.cuh"

#include <cuda/atomic>

#include <cstdint>

namespace cuda_zstd {

class cuda_block {
public:
    using Env = cuda_env;
    using Cell = Env::atom<std::uint32_t>;

    CUDA_ZSTD_INLINE Env& env() { return env_; }
    CUDA_ZSTD_INLINE unsigned thread() const {
#if defined(__CUDA_ARCH__)
        return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
#else
        return not_here();
#endif
    }
    CUDA_ZSTD_INLINE unsigned threads() const {
#if defined(__CUDA_ARCH__)
        return blockDim.x * blockDim.y * blockDim.z;
#else
        return not_here();
#endif
    }
    CUDA_ZSTD_INLINE void sync() const {
#if defined(__CUDA_ARCH__)
        __syncthreads();
#else
        not_here();
#endif
    }
    CUDA_ZSTD_INLINE std::uint32_t load(const Cell& cell) const {
        return Ref(const_cast<std::uint32_t&>(cell.value)).load(cuda::std::memory_order_relaxed);
    }
    CUDA_ZSTD_INLINE void store(Cell& cell, std::uint32_t value) const {
        Ref(cell.value).store(value, cuda::std::memory_order_relaxed);
    }
    CUDA_ZSTD_INLINE std::uint32_t fetch_add(Cell& cell, std::uint32_t value) const {
        return Ref(cell.value).fetch_add(value, cuda::std::memory_order_relaxed);
    }

private:
    using Ref = cuda::atomic_ref<std::uint32_t, cuda::thread_scope_block>;

    static CUDA_ZSTD_INLINE unsigned not_here() {
#if !defined(__CUDA_ARCH__)
        __builtin_trap();
#endif
        return 0;
    }

    Env env_;
};

} // namespace cuda_zstd
