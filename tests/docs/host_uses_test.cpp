// SPDX-License-Identifier: MIT
// The host code of the README. What stands between `[name]` and `[/name]` is in the README word for word:
// check_snippets.py compares the two.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <string>

namespace {

TEST(Readme, AllocatesInStreamOrder) {
    cuda_zstd::Backend& backend = cuda_zstd::Backend::get();
    cudaStream_t stream = backend.create_stream();
    const std::string text = "stream order";
    std::string copy(text.size(), '-');

    // [host-pool]
    auto& pool = cuda_zstd::MemoryPoolManager::get_instance();

    void* buffer = pool.allocate(1024 * 1024, stream);
    backend.copy_async(buffer, text.data(), text.size(), stream);
    backend.copy_async(copy.data(), buffer, text.size(), stream);
    // The copies may still be running: whoever gets these bytes next is ordered behind them.
    pool.deallocate(buffer, stream);
    // [/host-pool]

    backend.synchronize(stream);
    backend.destroy_stream(stream);
    EXPECT_EQ(copy, text);
    EXPECT_EQ(pool.get_allocated_size(), 0u);
}

TEST(Readme, OwnsAndConfigures) {
    // [host-options]
    cuda_zstd::PoolOptions options;
    options.max_bytes = std::size_t{256} << 20;
    options.strategy = cuda_zstd::Strategy::segregated;
    cuda_zstd::MemoryPoolManager pool(cuda_zstd::from_environment(options));

    pool.reserve(std::size_t{64} << 20); // mapped now, so that the first calls do not wait for the driver
    {
        cuda_zstd::PooledBuffer scratch(pool, 3'000'000); // gives itself back
        EXPECT_EQ(pool.get_allocated_size(), scratch.size_bytes());
    }
    pool.trim(); // what no live block needs goes back to the machine
    // [/host-options]
    EXPECT_EQ(pool.get_allocated_size(), 0u);
}

TEST(Readme, SaysWhatIsWrong) {
    cuda_zstd::PoolOptions options;
    options.max_bytes = std::size_t{16} << 20;
    cuda_zstd::MemoryPoolManager pool(options);
    bool out_of_memory = false;
    bool double_free = false;

    // [host-errors]
    try {
        pool.allocate(std::size_t{1} << 40);
    } catch (const std::bad_alloc& error) {
        std::puts(error.what()); // what was asked, what is free, and how fragmented that is
        out_of_memory = true;
    }
    void* block = pool.allocate(4096);
    pool.deallocate(block);
    try {
        pool.deallocate(block);
    } catch (const cuda_zstd::usage_error& error) {
        std::puts(error.what()); // a double free, with the block's history; the pool is as it was
        double_free = true;
    }
    // [/host-errors]
    EXPECT_TRUE(out_of_memory);
    EXPECT_TRUE(double_free);
}

TEST(Readme, ShowsItsFigures) {
    cuda_zstd::MemoryPoolManager pool{cuda_zstd::PoolOptions{}};
    cuda_zstd::PooledBuffer live(pool, 5000);

    // [host-statistics]
    const cuda_zstd::PoolStatistics now = pool.statistics();
    std::printf("%zu of %zu bytes in use, %.1f %% fragmented, %llu growths\n", now.allocated_bytes, now.capacity_bytes,
                100 * now.fragmentation(), static_cast<unsigned long long>(now.growths));
    for (const cuda_zstd::PoolBlock& block : pool.snapshot()) // in address order
        std::printf("%p %zu %s\n", block.ptr, block.size, block.is_free ? "free" : "live");
    // [/host-statistics]
    EXPECT_EQ(now.allocated_bytes, 5000u);
    EXPECT_EQ(now.live_blocks, 1u);
}

} // namespace
