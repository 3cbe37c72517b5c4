// SPDX-License-Identifier: MIT
// Subject "cuda": CUDA's own device malloc.
#pragma once

#include "../bench_support.cuh"

namespace bench {

struct CudaMallocRef {
    __device__ void* allocate(std::size_t bytes) const { return malloc(bytes); }
    __device__ void deallocate(void* block) const { free(block); }
};

class CudaMallocSubject {
public:
    static constexpr const char* name = "cuda";
    static constexpr bool frees = true;
    using Ref = CudaMallocRef;

    explicit CudaMallocSubject(std::size_t heap_bytes) : bytes_(heap_bytes) {
        check(cudaDeviceSetLimit(cudaLimitMallocHeapSize, heap_bytes), "cudaDeviceSetLimit");
    }
    Ref ref() const { return {}; }
    void reset() {}
    std::size_t payload_bytes() const { return bytes_; }

private:
    std::size_t bytes_;
};

} // namespace bench
