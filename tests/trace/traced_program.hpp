// SPDX-License-Identifier: MIT
// Programs whose calls are traced, for the tests of traces.
// Invariant: each run writes a file of its own, and the file is whole when the run returns.
#pragma once

#include "cuda_zstd_memory_pool_enhanced.h"
#include "trace_file.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace pool_trace::testing {

inline std::string fresh_path(const std::string& name) {
    static int count = 0;
    return ::testing::TempDir() + "cuda_zstd_" + std::to_string(::getpid()) + "_" + std::to_string(++count) + name;
}

/// Runs `program` with a pool that writes a trace, and reads the trace.
inline Trace traced(const std::function<void(cuda_zstd::MemoryPoolManager&)>& program,
                    cuda_zstd::PoolOptions options = {}, std::vector<unsigned char>* bytes = nullptr) {
    const std::string path = fresh_path(".trace");
    setenv("CUDA_ZSTD_POOL_TRACE", path.c_str(), 1);
    options.backend = cuda_zstd::BackendKind::host;
    options.diagnostics = nullptr;
    {
        cuda_zstd::MemoryPoolManager pool(options);
        unsetenv("CUDA_ZSTD_POOL_TRACE");
        program(pool);
    }
    const auto written = read_bytes(path);
    std::remove(path.c_str());
    if (bytes != nullptr) *bytes = written;
    return parse(written);
}

/// Allocations and frees of mixed sizes on `threads` threads, each with a stream; everything is freed.
inline void mixed_calls(cuda_zstd::MemoryPoolManager& pool, unsigned threads, unsigned calls) {
    std::vector<std::thread> running;
    for (unsigned number = 0; number < threads; ++number)
        running.emplace_back([&pool, number, calls] {
            std::mt19937 random(number + 1);
            const cudaStream_t stream = pool.backend().create_stream();
            std::vector<void*> blocks;
            for (unsigned call = 0; call < calls; ++call) {
                if (blocks.size() < 20 && random() % 3 != 0) {
                    const std::size_t bytes = std::size_t{1} << random() % 22;
                    if (random() % 8 == 0)
                        blocks.push_back(pool.allocate(bytes, 4096, stream));
                    else
                        blocks.push_back(pool.allocate(bytes + random() % bytes, stream));
                } else if (!blocks.empty()) {
                    std::swap(blocks[random() % blocks.size()], blocks.back());
                    pool.deallocate(blocks.back(), stream);
                    blocks.pop_back();
                }
            }
            for (void* block : blocks)
                pool.deallocate(block, stream);
            pool.backend().destroy_stream(stream);
        });
    for (std::thread& thread : running)
        thread.join();
}

} // namespace pool_trace::testing
