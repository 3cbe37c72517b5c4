// SPDX-License-Identifier: MIT
// Makes a trace and snapshots for the tests of the programs that read them: demo FOLDER BLOCKS
#include "cuda_zstd_memory_pool_enhanced.h"
#include "replay.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;

void write(const MemoryPoolManager& pool, const std::string& path) {
    std::FILE* const file = std::fopen(path.c_str(), "w");
    if (file == nullptr) throw std::runtime_error("cannot write " + path);
    const auto begin = std::chrono::steady_clock::now();
    const std::clock_t cpu_begin = std::clock();
    pool.write_snapshot(file);
    const double cpu_ms = 1e3 * static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    const long bytes = std::ftell(file);
    std::fclose(file);
    std::printf("%s: %.1f ms (%.1f ms of processor time), %.1f MB\n", path.c_str(), ms, cpu_ms,
                static_cast<double>(bytes) / 1e6);
}

/// Phases of a program that grows, churns and frees: blocks of all pools on four streams.
void run(MemoryPoolManager& pool, unsigned wanted) {
    std::mt19937_64 random(1);
    std::vector<cudaStream_t> streams;
    for (int index = 0; index < 4; ++index)
        streams.push_back(pool.backend().create_stream());
    const auto bytes = [&]() -> std::size_t {
        const auto choice = random() % 1000;
        if (choice < 980) return 64 + random() % 6000;
        if (choice < 998) return (64u << 10) + random() % (800u << 10);
        return (1u << 20) + random() % (4u << 20);
    };
    std::vector<void*> blocks;
    while (blocks.size() < wanted + wanted / 3)
        blocks.push_back(pool.allocate(bytes(), streams[random() % 4]));
    while (blocks.size() > wanted) {
        std::swap(blocks[random() % blocks.size()], blocks.back());
        pool.deallocate(blocks.back(), streams[random() % 4]);
        blocks.pop_back();
    }
    for (unsigned round = 0; round < wanted / 4; ++round) {
        void*& block = blocks[random() % blocks.size()];
        pool.deallocate(block, streams[random() % 4]);
        block = pool.allocate(bytes(), streams[random() % 4]);
    }
}

} // namespace

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("demo FOLDER BLOCKS");
    const std::string folder = argv[1];
    PoolOptions options;
    options.backend = BackendKind::host;
    options.diagnostics = nullptr;
    options.custom_source = pool_trace::make_phantom_source(std::size_t{1} << 40);
    {
        const MemoryPoolManager empty(options);
        write(empty, folder + "/empty.json");
    }
    setenv("CUDA_ZSTD_POOL_TRACE", (folder + "/demo.trace").c_str(), 1);
    setenv("CUDA_ZSTD_POOL_TRACK", "sample", 1);
    MemoryPoolManager pool(options);
    run(pool, static_cast<unsigned>(std::stoul(argv[2])));
    void* const arena = pool.allocate_device_arena(std::size_t{64} << 20, nullptr);
    write(pool, folder + "/demo.json");
    pool.release_device_arena(arena, nullptr);
    options.max_bytes = std::size_t{32} << 20;
    options.strategy = Strategy::first_fit;
    setenv("CUDA_ZSTD_POOL_TRACK", "all", 1);
    MemoryPoolManager limited(options);
    (void)limited.allocate(std::size_t{5} << 20);
    (void)limited.allocate(1000);
    write(limited, folder + "/limited.json");
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "demo: %s\n", error.what());
    return 1;
}
