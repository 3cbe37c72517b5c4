// SPDX-License-Identifier: MIT
// Subject "ours": the device pool.
#pragma once

#include "cuda_zstd_device_pool.cuh"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"

namespace bench {

class PoolSubject {
public:
    static constexpr const char* name = "ours";
    static constexpr bool frees = true;
    using Ref = cuda_zstd::DevicePoolRef;

    explicit PoolSubject(std::size_t heap_bytes) : pool_(cuda_zstd::MemoryPoolManager::get_instance(), heap_bytes) {
        cudaDeviceSynchronize();
    }
    Ref ref() const { return pool_.ref<cuda_zstd::cuda_env>(); }
    void reset() {}
    std::size_t payload_bytes() const { return pool_.layout().payload_bytes(); }

private:
    cuda_zstd::DevicePool pool_;
};

} // namespace bench
