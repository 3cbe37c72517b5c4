// SPDX-License-Identifier: MIT
// What every file may rely on: version, function qualifiers and symbol visibility.
// Invariant: includes nothing, so that any layer and any compiler can take it.
#pragma once

#define CUDA_ZSTD_POOL_VERSION_MAJOR 0
#define CUDA_ZSTD_POOL_VERSION_MINOR 1
#define CUDA_ZSTD_POOL_VERSION_PATCH 0
/// The version of the headers as one number: major * 10000 + minor * 100 + patch.
#define CUDA_ZSTD_POOL_VERSION                                                                                         \
    (CUDA_ZSTD_POOL_VERSION_MAJOR * 10000 + CUDA_ZSTD_POOL_VERSION_MINOR * 100 + CUDA_ZSTD_POOL_VERSION_PATCH)

#if defined(__CUDACC__)
/// A function that both the host and the device may call.
#define CUDA_ZSTD_HD __host__ __device__
#define CUDA_ZSTD_INLINE __host__ __device__ __forceinline__
/// The rare path: kept out of line, so that it costs the common path no registers and no code.
#define CUDA_ZSTD_RARE __host__ __device__ __noinline__
#else
#define CUDA_ZSTD_HD
#define CUDA_ZSTD_INLINE inline __attribute__((always_inline))
#define CUDA_ZSTD_RARE __attribute__((noinline))
#endif

namespace cuda_zstd {

/// The function itself, as a pointer that the compiler cannot see through. A kernel's registers are those of its
/// deepest chain of calls; behind such a pointer a function follows the calling convention, which adds none to its
/// caller's: it saves what it needs on the stack, which is the rare path's to pay.
template <class Function>
CUDA_ZSTD_INLINE Function* out_of_line(Function* function) {
#if defined(__CUDA_ARCH__)
    asm volatile("" : "+l"(function));
#endif
    return function;
}

} // namespace cuda_zstd

/// A symbol that the library exports; all others are hidden.
#define CUDA_ZSTD_API __attribute__((visibility("default")))
