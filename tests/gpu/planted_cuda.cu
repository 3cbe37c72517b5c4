// SPDX-License-Identifier: MIT
// One mistake in the use of the pool's memory, for compute-sanitizer to find: tools/planted_check.py runs it.
// Usage: planted FAULT SOURCE; FAULT: clean, past_the_end, after_free, after_reset, never_written, leak; SOURCE:
// automatic, virtual, malloc. Prints "planted at ADDRESS: BYTES bytes", the block that the report has to be about.
//
// Invariant: without the sanitizer each run ends well, since all of the memory that is touched is mapped.
#include "cuda_zstd_device_pool.cuh"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "kernels/cuda_check.hpp"

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

using namespace cuda_zstd;

constexpr std::size_t block_bytes = 1000;

__global__ void write_kernel(char* at) { *at = 1; }
__global__ void read_kernel(const int* from, int* to) { *to = *from + 1; }

/// Right use of a pool by a kernel.
__global__ void allocate_kernel(DevicePoolRef pool) {
    auto* const block = static_cast<unsigned char*>(pool.allocate(64 + threadIdx.x));
    if (block == nullptr) return;
    for (unsigned at = 0; at < 64 + threadIdx.x; ++at)
        block[at] = static_cast<unsigned char>(at);
    pool.deallocate(block);
}

void write_at(void* at) {
    write_kernel<<<1, 1>>>(static_cast<char*>(at));
    check_launch("write_kernel");
}

void right_use(MemoryPoolManager& manager, char* block) {
    for (std::size_t at = 0; at < block_bytes; at += block_bytes - 1)
        write_at(block + at);
    void* const result = manager.allocate(sizeof(int));
    cudaMemsetAsync(block, 0, block_bytes);
    read_kernel<<<1, 1>>>(reinterpret_cast<const int*>(block), static_cast<int*>(result));
    check_launch("read_kernel");
    manager.deallocate(result);
    DevicePool pool(manager, std::size_t{4} << 20);
    allocate_kernel<<<8, 128>>>(pool.ref<cuda_env>());
    check_launch("allocate_kernel");
    pool.compact(nullptr);
    pool.statistics(nullptr);
}

void plant(const std::string& fault, MemoryPoolManager& manager) {
    Backend& backend = manager.backend();
    auto* const before = static_cast<char*>(manager.allocate(block_bytes));
    auto* const block = static_cast<char*>(manager.allocate(block_bytes));
    std::printf("planted at %p: %zu bytes\n", static_cast<void*>(block), block_bytes);
    std::fflush(stdout);
    if (fault == "clean") {
        right_use(manager, block);
    } else if (fault == "past_the_end") {
        write_at(block + block_bytes);
    } else if (fault == "after_free" || fault == "after_reset") {
        write_at(block);
        backend.synchronize();
        if (fault == "after_reset") {
            manager.reset();
            write_at(block);
            backend.synchronize();
            return;
        }
        manager.deallocate(block);
        write_at(block);
        backend.synchronize();
        manager.deallocate(before);
        return;
    } else if (fault == "never_written") {
        void* const result = manager.allocate(sizeof(int));
        read_kernel<<<1, 1>>>(reinterpret_cast<const int*>(block), static_cast<int*>(result));
        check_launch("read_kernel");
        backend.synchronize();
        manager.deallocate(result);
    } else if (fault != "leak") {
        throw std::runtime_error("no such fault: " + fault);
    }
    backend.synchronize();
    manager.deallocate(before);
    if (fault != "leak") manager.deallocate(block);
}

} // namespace

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("usage: planted FAULT SOURCE");
    const std::string fault = argv[1];
    PoolOptions options;
    options.backend = BackendKind::cuda;
    const std::string source = argv[2];
    if (source == "malloc") options.source = SourceKind::cuda_malloc;
    if (source == "virtual") options.source = SourceKind::cuda_virtual;
    auto manager = std::make_unique<MemoryPoolManager>(options);
    plant(fault, *manager);
    manager->backend().synchronize();
    if (fault == "leak") {
        // What leaks is still a region when the device is reset.
        (void)manager.release();
        cudaDeviceReset();
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "planted: %s\n", error.what());
    return 1;
}
