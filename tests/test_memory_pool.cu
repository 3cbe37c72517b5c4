// SPDX-License-Identifier: MIT
// The guide's API as the guide uses it, on whichever backend there is.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

/// Writes and reads all of a block on the device.
bool holds_data(Backend& backend, void* block, std::size_t bytes, unsigned char value, cudaStream_t stream) {
    std::vector<unsigned char> copy(bytes, static_cast<unsigned char>(~value));
    backend.fill_async(block, value, bytes, stream);
    backend.copy_async(copy.data(), block, bytes, stream);
    backend.synchronize(stream);
    for (const unsigned char byte : copy)
        if (byte != value) return false;
    return true;
}

TEST(Guide, BasicAllocation) {
    auto& pool = MemoryPoolManager::get_instance();
    EXPECT_EQ(&pool, &MemoryPoolManager::get_instance());
    void* buffer = pool.allocate(1024 * 1024);
    ASSERT_NE(buffer, nullptr);
    EXPECT_TRUE(holds_data(pool.backend(), buffer, MiB, 7, nullptr));
    EXPECT_EQ(pool.get_allocated_size(), MiB);
    EXPECT_GE(pool.get_pool_size(), MiB);
    pool.deallocate(buffer);
    EXPECT_EQ(pool.get_allocated_size(), 0u);
    EXPECT_EQ(pool.allocate(1024 * 1024), buffer) << "returned to the pool, used again";
    pool.deallocate(buffer);
}

TEST(Guide, StreamOrderedAllocation) {
    auto& pool = MemoryPoolManager::get_instance();
    const cudaStream_t stream = pool.backend().create_stream();
    void* a = pool.allocate(1024, stream);
    void* b = pool.allocate(2048, stream);
    EXPECT_NE(a, b);
    EXPECT_TRUE(holds_data(pool.backend(), a, 1024, 1, stream));
    EXPECT_TRUE(holds_data(pool.backend(), b, 2048, 2, stream));
    pool.deallocate(b, stream);
    pool.deallocate(a, stream);
    EXPECT_EQ(pool.get_allocated_size(), 0u);
    pool.backend().destroy_stream(stream);
}

TEST(Guide, BulkOperations) {
    auto& pool = MemoryPoolManager::get_instance();
    pool.trim();
    pool.reserve(100 * MiB);
    EXPECT_GE(pool.get_pool_size(), 100 * MiB);
    const std::uint64_t growths = pool.statistics().growths;
    void* block = pool.allocate(90 * MiB);
    EXPECT_EQ(pool.statistics().growths, growths) << "what was reserved is enough";
    pool.deallocate(block);
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 0u);
}

/// The guide's four lines, character by character, for its figures.
TEST(Guide, StatisticsAreTheGuidesText) {
    PoolStatistics s;
    s.allocated_bytes = 134742016; // 128.5 MB
    s.capacity_bytes = 256 * MiB;
    s.free_blocks = 47;
    s.free_bytes = 1000;
    s.largest_free_block_bytes = 968;
    const std::string expected = "MemoryPool Stats:\n"
                                 "  Total Allocated: 128.5 MB\n"
                                 "  Total Capacity:  256.0 MB\n"
                                 "  Free Blocks:     47\n"
                                 "  Fragmentation:   3.2%\n";
    EXPECT_EQ(to_text(s).substr(0, expected.size()), expected);
}

TEST(Guide, PrintsToStdoutAFileOrAStream) {
    PoolOptions options;
    options.max_bytes = 64 * MiB;
    MemoryPoolManager pool(options);
    void* block = pool.allocate(3 * MiB);
    std::ostringstream to;
    pool.print_stats(to);
    EXPECT_TRUE(to.str().starts_with("MemoryPool Stats:\n  Total Allocated: 3.0 MB\n")) << to.str();
    testing::internal::CaptureStdout();
    pool.print_stats();
    std::fflush(stdout);
    EXPECT_EQ(testing::internal::GetCapturedStdout(), to.str());
    std::FILE* file = std::tmpfile();
    pool.print_stats(file);
    EXPECT_EQ(std::ftell(file), static_cast<long>(to.str().size()));
    std::fclose(file);
    pool.deallocate(block);
}

/// The guide's leak check, with a planted leak.
TEST(Guide, APlantedLeakIsReported) {
    PoolOptions options;
    options.max_bytes = 64 * MiB;
    options.diagnostics = std::tmpfile();
    {
        MemoryPoolManager pool(options);
        void* leaked = pool.allocate(12345);
        pool.deallocate(pool.allocate(777));
        EXPECT_EQ(pool.get_allocated_size(), 12345u);
        std::ostringstream to;
        pool.print_allocated_blocks(to);
        char address[32];
        std::snprintf(address, sizeof address, "%p", leaked);
        EXPECT_NE(to.str().find("Allocated blocks: 1\n"), std::string::npos) << to.str();
        EXPECT_NE(to.str().find(address), std::string::npos) << to.str();
        EXPECT_NE(to.str().find("12345 bytes  small"), std::string::npos) << to.str();
    }
    std::rewind(options.diagnostics);
    char line[256] = {};
    ASSERT_NE(std::fgets(line, sizeof line, options.diagnostics), nullptr) << "the pool's end reports the leak";
    EXPECT_EQ(std::string(line), "cuda_zstd: 12345 bytes still allocated when the pool ends\n");
    std::fclose(options.diagnostics);
}

TEST(Guide, ABlocksDescriptionHas32Bytes) {
    static_assert(sizeof(PoolBlock) == 32);
    PoolOptions options;
    options.max_bytes = 64 * MiB;
    MemoryPoolManager pool(options);
    void* small = pool.allocate(300);
    void* large = pool.allocate(5 * MiB);
    std::size_t live = 0;
    std::size_t free_bytes = 0;
    const std::byte* end = nullptr;
    for (const PoolBlock& block : pool.snapshot()) {
        if (block.ptr == small || block.ptr == large) {
            EXPECT_FALSE(block.is_free);
            EXPECT_EQ(block.size, block.ptr == small ? 300 : 5 * MiB);
            EXPECT_GT(block.timestamp, 0u);
            ++live;
        } else {
            EXPECT_TRUE(block.is_free);
            free_bytes += block.size;
        }
        EXPECT_GE(block.ptr, end) << "in address order, without overlap";
        end = static_cast<const std::byte*>(block.ptr) + block.size;
    }
    EXPECT_EQ(live, 2u);
    const PoolStatistics s = pool.statistics();
    EXPECT_EQ(s.free_bytes, free_bytes);
    EXPECT_EQ(s.capacity_bytes, s.live_block_bytes + s.free_bytes);
    pool.deallocate(small);
    pool.deallocate(large);
}

TEST(Enhanced, ABufferFreesItself) {
    PoolOptions options;
    options.max_bytes = 64 * MiB;
    MemoryPoolManager pool(options);
    const cudaStream_t stream = pool.backend().create_stream();
    {
        PooledBuffer first(pool, 5000, stream);
        EXPECT_EQ(first.size_bytes(), 5000u);
        EXPECT_EQ(first.as<char>(), first.data());
        PooledBuffer second(std::move(first));
        EXPECT_FALSE(first);
        EXPECT_EQ(pool.get_allocated_size(), 5000u);
        second = PooledBuffer(pool, 70000, stream);
        EXPECT_EQ(pool.get_allocated_size(), 70000u);
        PooledBuffer empty(pool, 0, stream);
        EXPECT_FALSE(empty);
    }
    EXPECT_EQ(pool.get_allocated_size(), 0u);
    PooledBuffer given(pool, 100, stream);
    void* raw = given.release();
    EXPECT_EQ(pool.get_allocated_size(), 100u);
    pool.deallocate(raw, stream);
    pool.backend().destroy_stream(stream);
}

/// Each source under the same program.
class Sources : public testing::TestWithParam<SourceKind> {};

TEST_P(Sources, ServeGrowAndTrim) {
    const bool needs_device = GetParam() != SourceKind::ordinary;
    if (needs_device && !Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
    PoolOptions options;
    options.backend = needs_device ? BackendKind::cuda : BackendKind::host;
    options.source = GetParam();
    options.initial_bytes = 10 * MiB;
    MemoryPoolManager pool(options);
    EXPECT_GE(pool.get_pool_size(), 10 * MiB);
    std::vector<void*> blocks;
    for (const std::size_t bytes : {std::size_t{100}, std::size_t{40000}, std::size_t{300000}, 6 * MiB, 70 * MiB}) {
        blocks.push_back(pool.allocate(bytes));
        EXPECT_TRUE(holds_data(pool.backend(), blocks.back(), bytes, 0x5a, nullptr)) << bytes;
    }
    EXPECT_GT(pool.statistics().growths, 1u);
    for (void* block : blocks)
        pool.deallocate(block);
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 0u);
    // And again, in the ranges that are there.
    void* again = pool.allocate(3 * MiB);
    EXPECT_TRUE(holds_data(pool.backend(), again, 3 * MiB, 0x33, nullptr));
    pool.deallocate(again);
}

INSTANTIATE_TEST_SUITE_P(All, Sources,
                         testing::Values(SourceKind::ordinary, SourceKind::cuda_virtual, SourceKind::cuda_malloc,
                                         SourceKind::cuda_managed, SourceKind::cuda_pinned),
                         [](const auto& tested) {
                             return tested.param == SourceKind::ordinary       ? "ordinary"
                                    : tested.param == SourceKind::cuda_virtual ? "cuda_virtual"
                                    : tested.param == SourceKind::cuda_malloc  ? "cuda_malloc"
                                    : tested.param == SourceKind::cuda_managed ? "cuda_managed"
                                                                               : "cuda_pinned";
                         });

} // namespace
} // namespace cuda_zstd
