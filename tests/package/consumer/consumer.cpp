// SPDX-License-Identifier: MIT
// Uses the library through its public header alone, on whichever backend the environment names.
#include "cuda_zstd_memory_pool.h"

#include <cstdio>

int main() {
    auto& pool = cuda_zstd::MemoryPoolManager::get_instance();
    void* buffer = pool.allocate(1024 * 1024);
    const bool counted = pool.get_allocated_size() == 1024 * 1024;
    pool.deallocate(buffer);
    pool.print_stats();
    return counted && pool.get_allocated_size() == 0 && cuda_zstd::library_version() == CUDA_ZSTD_POOL_VERSION ? 0 : 1;
}
