// SPDX-License-Identifier: MIT
// Lists of live blocks name the calls that allocated them.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#define NAMED_FUNCTION extern "C" __attribute__((noipa, visibility("default")))

NAMED_FUNCTION void* function_that_allocates(cuda_zstd::MemoryPoolManager& pool, std::size_t bytes) {
    void* block = pool.allocate(bytes);
    asm volatile("" : "+r"(block)); // No tail call: the frame stays.
    return block;
}
NAMED_FUNCTION void* function_above_it(cuda_zstd::MemoryPoolManager& pool, std::size_t bytes) {
    void* block = function_that_allocates(pool, bytes);
    asm volatile("" : "+r"(block));
    return block;
}

namespace cuda_zstd {
namespace {

/// A pool under CUDA_ZSTD_POOL_TRACK=`mode`.
struct Tracked {
    explicit Tracked(const char* mode) {
        setenv("CUDA_ZSTD_POOL_TRACK", mode, 1);
        PoolOptions options;
        options.backend = BackendKind::host;
        options.diagnostics = nullptr;
        pool = std::make_unique<MemoryPoolManager>(options);
        unsetenv("CUDA_ZSTD_POOL_TRACK");
    }
    std::string listed() const {
        std::ostringstream text;
        pool->print_allocated_blocks(text);
        return text.str();
    }
    std::unique_ptr<MemoryPoolManager> pool;
};

std::size_t count(const std::string& text, const std::string& what) {
    std::size_t found = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
        ++found;
    return found;
}

TEST(CallSites, AllNamesEveryBlocksCallers) {
    const Tracked tracked("all");
    void* const first = function_above_it(*tracked.pool, 1000);
    function_above_it(*tracked.pool, 3 << 20);
    const std::string text = tracked.listed();
    EXPECT_EQ(count(text, "      from function_that_allocates ("), 2u) << text;
    EXPECT_EQ(count(text, "      from function_above_it ("), 2u) << text;
    EXPECT_LT(text.find("function_that_allocates"), text.find("function_above_it"));
    // A free that is refused takes nothing from the list.
    EXPECT_THROW(tracked.pool->release_device_arena(first, nullptr), usage_error);
    EXPECT_EQ(tracked.listed().find("function_that_allocates"), text.find("function_that_allocates"));
    tracked.pool->deallocate(first);
    EXPECT_EQ(count(tracked.listed(), "      from function_that_allocates ("), 1u);
    tracked.pool->reset();
    EXPECT_EQ(tracked.listed(), "Allocated blocks: 0\n");
}

TEST(CallSites, ABlockThatIsAllocatedAgainHasItsNewSite) {
    const Tracked tracked("all");
    void* const block = function_that_allocates(*tracked.pool, 5000);
    tracked.pool->deallocate(block);
    ASSERT_EQ(tracked.pool->allocate(5000), block);
    EXPECT_EQ(tracked.listed().find("function_that_allocates"), std::string::npos);
}

TEST(CallSites, SampleNamesTheCallOfSomeBlocks) {
    const Tracked tracked("sample");
    std::vector<void*> blocks;
    for (int block = 0; block < 4000; ++block)
        blocks.push_back(function_that_allocates(*tracked.pool, 300));
    const std::string text = tracked.listed();
    EXPECT_EQ(count(text, " 300 bytes"), 4000u);
    const std::size_t named = count(text, "      from function_that_allocates (");
    EXPECT_EQ(count(text, "      from "), named);
    EXPECT_GT(named, 5u); // of about 31, one in 128
    EXPECT_LT(named, 150u);
    for (void* block : blocks) {
        EXPECT_THROW(tracked.pool->release_device_arena(block, nullptr), usage_error);
        EXPECT_EQ(tracked.pool->usable_size(block) >= 300, true);
    }
    EXPECT_EQ(count(tracked.listed(), "      from function_that_allocates ("), named);
    for (void* block : blocks)
        tracked.pool->deallocate(block);
    EXPECT_EQ(tracked.listed(), "Allocated blocks: 0\n");
}

TEST(CallSites, OffNamesNone) {
    const Tracked tracked("off");
    function_that_allocates(*tracked.pool, 300);
    EXPECT_EQ(count(tracked.listed(), " 300 bytes"), 1u);
    EXPECT_EQ(count(tracked.listed(), "from"), 0u);
}

TEST(CallSites, AModeThatIsNoneIsRefused) {
    EXPECT_THROW(Tracked("some"), configuration_error);
    unsetenv("CUDA_ZSTD_POOL_TRACK");
}

TEST(CallSitesDeathTest, TheProcessPoolReportsItsLeaksAtExit) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    EXPECT_EXIT(
        {
            setenv("CUDA_ZSTD_POOL_BACKEND", "host", 1);
            setenv("CUDA_ZSTD_POOL_TRACK", "all", 1);
            auto& pool = MemoryPoolManager::get_instance();
            pool.deallocate(pool.allocate(77));
            function_that_allocates(pool, 12345);
            std::exit(0);
        },
        testing::ExitedWithCode(0),
        "12345 bytes still allocated when the program ends\nAllocated blocks: 1\n.*12345 bytes  small .*\n"
        "      from function_that_allocates .*\n");
}

} // namespace
} // namespace cuda_zstd
