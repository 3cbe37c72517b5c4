// SPDX-License-Identifier: MIT
// Growth, trim, reset, device arenas, and a source that fails.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

PoolOptions limited(std::size_t max_bytes) {
    PoolOptions options;
    options.max_bytes = max_bytes;
    options.diagnostics = nullptr;
    return options;
}

TEST(Growth, GeometricDoublesTheCapacity) {
    PoolOptions options = limited(1024 * MiB);
    options.growth_factor = 2.0;
    MemoryPoolManager pool(options);
    std::vector<void*> blocks;
    std::vector<std::size_t> capacities;
    for (int i = 0; i < 16; ++i) {
        blocks.push_back(pool.allocate(32 * MiB));
        if (capacities.empty() || capacities.back() != pool.get_pool_size()) capacities.push_back(pool.get_pool_size());
    }
    EXPECT_EQ(capacities, (std::vector<std::size_t>{32 * MiB, 64 * MiB, 128 * MiB, 256 * MiB, 512 * MiB}));
    for (void* block : blocks)
        pool.deallocate(block);
}

TEST(Growth, FixedStepAndExact) {
    PoolOptions options = limited(1024 * MiB);
    options.growth = Growth::fixed_step;
    options.growth_step_bytes = 96 * MiB;
    MemoryPoolManager stepping(options);
    stepping.deallocate(stepping.allocate(2 * MiB));
    EXPECT_EQ(stepping.get_pool_size(), 96 * MiB);
    options.growth = Growth::exact;
    MemoryPoolManager exact(options);
    exact.deallocate(exact.allocate(33 * MiB));
    EXPECT_EQ(exact.get_pool_size(), 34 * MiB) << "whole chunks of 2 MiB";
}

TEST(Growth, StopsAtTheLimit) {
    MemoryPoolManager pool(limited(100 * MiB));
    void* first = pool.allocate(60 * MiB);
    EXPECT_THROW(pool.allocate(41 * MiB), out_of_memory);
    void* second = pool.allocate(40 * MiB);
    EXPECT_EQ(pool.get_pool_size(), 100 * MiB);
    EXPECT_THROW(pool.reserve(1), out_of_memory);
    pool.deallocate(first);
    pool.deallocate(second);
    EXPECT_NO_THROW(pool.reserve(100 * MiB));
    EXPECT_THROW(pool.reserve(101 * MiB), out_of_memory);
}

TEST(Trim, GivesBackAroundLiveBlocks) {
    PoolOptions options = limited(256 * MiB);
    options.growth = Growth::exact;
    MemoryPoolManager pool(options);
    std::vector<void*> blocks;
    for (int i = 0; i < 8; ++i)
        blocks.push_back(pool.allocate(32 * MiB));
    for (const std::size_t i : {1u, 2u, 5u})
        pool.deallocate(blocks[i]);
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 160 * MiB);
    EXPECT_EQ(pool.statistics().free_bytes, 0u);
    void* again = pool.allocate(64 * MiB);
    EXPECT_EQ(again, blocks[1]) << "the addresses between live blocks are mapped again";
    pool.backend().fill_async(again, 1, 64 * MiB, nullptr);
    pool.backend().synchronize(nullptr);
    for (const std::size_t i : {0u, 3u, 4u, 6u, 7u})
        pool.deallocate(blocks[i]);
    pool.deallocate(again);
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 0u);
}

TEST(Trim, KeepsWhatWasUsedLast) {
    PoolOptions options = limited(128 * MiB);
    options.growth = Growth::exact;
    MemoryPoolManager pool(options);
    void* old = pool.allocate(32 * MiB);
    void* wall = pool.allocate(32 * MiB);
    void* recent = pool.allocate(32 * MiB);
    pool.deallocate(old);
    pool.deallocate(recent);
    pool.trim(64 * MiB);
    EXPECT_EQ(pool.get_pool_size(), 64 * MiB);
    const std::uint64_t growths = pool.statistics().growths;
    EXPECT_EQ(pool.allocate(32 * MiB), recent) << "the least recently used memory went first";
    EXPECT_EQ(pool.statistics().growths, growths);
    pool.deallocate(recent);
    pool.deallocate(wall);
}

TEST(Reset, InvalidatesReportsAndKeepsTheMemory) {
    PoolOptions options = limited(64 * MiB);
    options.diagnostics = std::tmpfile();
    MemoryPoolManager pool(options);
    void* small = pool.allocate(1000);
    void* large = pool.allocate(3 * MiB);
    pool.deallocate(pool.allocate(500000));
    const std::size_t capacity_bytes = pool.get_pool_size();
    pool.reset();
    EXPECT_EQ(pool.get_pool_size(), capacity_bytes);
    EXPECT_EQ(pool.get_allocated_size(), 0u);
    EXPECT_EQ(pool.statistics().reset_invalidated_blocks, 2u);
    EXPECT_EQ(pool.statistics().free_bytes, capacity_bytes);
    EXPECT_EQ(pool.statistics().free_blocks, 1u);
    std::rewind(options.diagnostics);
    char line[128] = {};
    ASSERT_NE(std::fgets(line, sizeof line, options.diagnostics), nullptr);
    EXPECT_EQ(std::string(line), "cuda_zstd: reset() invalidates 2 live blocks (3146728 bytes)\n");
    for (void* block : {small, large}) {
        try {
            pool.deallocate(block);
            ADD_FAILURE() << "the block does not live any more";
        } catch (const usage_error& error) {
            EXPECT_NE(std::string(error.what()).find("invalidated by reset()"), std::string::npos) << error.what();
        }
    }
    pool.reset();
    EXPECT_EQ(pool.statistics().reset_invalidated_blocks, 0u);
    EXPECT_EQ(pool.statistics().total_invalidated_blocks, 2u);
    void* all = pool.allocate(capacity_bytes);
    EXPECT_EQ(pool.get_pool_size(), capacity_bytes);
    pool.deallocate(all);
    std::fclose(options.diagnostics);
}

TEST(DeviceArena, IsAlignedListedAndForbidsReset) {
    MemoryPoolManager pool(limited(64 * MiB));
    void* shift = pool.allocate(3000000);
    void* arena = pool.allocate_device_arena(5 * MiB + 1, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena) % (2 * MiB), 0u);
    EXPECT_EQ(pool.usable_size(arena), 6 * MiB);
    EXPECT_EQ(pool.statistics().live_device_pools, 1u);
    EXPECT_EQ(pool.get_allocated_size(), 3000000 + 6 * MiB);
    std::ostringstream text;
    pool.print_allocated_blocks(text);
    EXPECT_NE(text.str().find("6291456 bytes  device"), std::string::npos) << text.str();
    EXPECT_THROW(pool.reset(), usage_error);
    EXPECT_EQ(pool.get_allocated_size(), 3000000 + 6 * MiB) << "nothing was changed";
    EXPECT_THROW(pool.deallocate(arena), usage_error);
    EXPECT_THROW(pool.release_device_arena(shift, nullptr), usage_error);
    pool.release_device_arena(arena, nullptr);
    EXPECT_THROW(pool.release_device_arena(arena, nullptr), usage_error);
    EXPECT_EQ(pool.statistics().live_device_pools, 0u);
    pool.deallocate(shift);
    EXPECT_NO_THROW(pool.reset());
}

TEST(DeviceArena, MayTakeAllOfThePool) {
    MemoryPoolManager pool(limited(48 * MiB));
    void* arena = pool.allocate_device_arena(48 * MiB, nullptr);
    EXPECT_EQ(pool.get_pool_size(), 48 * MiB);
    pool.release_device_arena(arena, nullptr);
}

/// From the n-th call on the source fails until it is mended, for each n: the pool says so, stays usable, and nothing
/// is left behind.
TEST(FaultySourceTest, AnyCallMayFail) {
    std::uint64_t calls_without_failure = 0;
    unsigned failures_seen = 0;
    for (std::uint64_t failing = 0; failing <= calls_without_failure; ++failing) {
        auto broken = std::make_shared<bool>(failing != 0);
        auto source = std::make_shared<FaultySource>(
            std::shared_ptr<ArenaSource>(make_ordinary_source()),
            [failing, broken](std::uint64_t call) { return *broken && call >= failing; });
        {
            PoolOptions options = limited(62 * MiB);
            options.backend = BackendKind::host;
            options.custom_source = source;
            options.growth = Growth::exact; // any other growth makes do with less where the rest is not to be had
            MemoryPoolManager pool(options);
            std::vector<void*> blocks;
            for (const std::size_t bytes : {std::size_t{500}, std::size_t{90000}, 7 * MiB, 20 * MiB, 9 * MiB}) {
                try {
                    blocks.push_back(pool.allocate(bytes));
                } catch (const out_of_memory& error) {
                    ++failures_seen;
                    EXPECT_NE(std::string(error.what()).find("planted failure"), std::string::npos) << error.what();
                    // With the source mended the same call succeeds.
                    *broken = false;
                    blocks.push_back(pool.allocate(bytes));
                }
            }
            EXPECT_EQ(pool.get_pool_size(), source->mapped_bytes());
            pool.deallocate(blocks.back());
            blocks.pop_back();
            pool.trim();
            EXPECT_EQ(pool.get_pool_size(), source->mapped_bytes());
            for (void* block : blocks)
                pool.deallocate(block);
            EXPECT_EQ(pool.get_allocated_size(), 0u);
        }
        EXPECT_EQ(source->mapped_bytes(), 0u) << "call " << failing << " failed";
        EXPECT_EQ(source->reserved_ranges(), 0u) << "call " << failing << " failed";
        if (failing == 0) calls_without_failure = source->calls();
    }
    EXPECT_GE(calls_without_failure, 10u);
    EXPECT_EQ(failures_seen, calls_without_failure) << "each failure reached the caller";
}

TEST(FaultySourceTest, APoolThatCannotGetItsInitialSizeIsNotMade) {
    for (const std::uint64_t failing : {1u, 2u, 5u}) {
        auto source = std::make_shared<FaultySource>(std::shared_ptr<ArenaSource>(make_ordinary_source()),
                                                     [failing](std::uint64_t call) { return call >= failing; });
        PoolOptions options = limited(62 * MiB);
        options.initial_bytes = 20 * MiB;
        options.backend = BackendKind::host;
        options.custom_source = source;
        EXPECT_THROW(MemoryPoolManager pool(options), out_of_memory);
        EXPECT_EQ(source->mapped_bytes(), 0u);
        EXPECT_EQ(source->reserved_ranges(), 0u);
    }
}

} // namespace
} // namespace cuda_zstd
