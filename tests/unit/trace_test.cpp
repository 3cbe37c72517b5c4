// SPDX-License-Identifier: MIT
// What a profiler would see, taken by a recorder that NVTX loads. The mode is the process's, so a process runs the
// tests of one suite: Trace (coarse), TraceFine, TraceOff, or TraceHeaps, whose recorder takes arenas as well. The
// filter says which; ctest runs each test alone.
#include "trace_recorded.hpp"

#include <cstdlib>
#include <map>
#include <string>

namespace cuda_zstd::test {
namespace {

TEST(Trace, HostCallsGrowthAndTrimAreRanges) {
    std::string pool_number;
    {
        MemoryPoolManager pool(options());
        (void)recorded_lines();
        pool_number = number_of(pool);
        pool.deallocate(pool.allocate(3 * MiB));
        pool.reserve(40 * MiB);
        pool.trim();
        pool.reset();
    }
    const std::string text = recorded();
    ASSERT_NE(text, "") << "NVTX has not loaded the recorder";
    for (const char* line :
         {"domain cuda_zstd", "category 1 allocate", "category 2 free", "category 3 grow", "category 4 trim",
          "category 5 compact", "category 6 wave", "schema pool call bytes@0 stream@8 pool@16"})
        EXPECT_EQ(registrations().count(line), 1u) << line;
    // Growth is inside the allocation that needs it; what follows is no miss and makes no range.
    EXPECT_NE(text.find("push 1 allocate, miss 1 3145728/1/" + pool_number +
                        "\npush 1 grow 3 3145728\npop 1\npop 1\npush 1 reserve 3 41943040/0/" + pool_number +
                        "\npop 1\npush 1 trim 4 0/0/" + pool_number + "\n"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("mark 1 evict 4 "), std::string::npos) << text;
    EXPECT_NE(text.find("push 1 reset 4 0/0/" + pool_number + "\n"), std::string::npos) << text;
}

TEST(Trace, AHitIsSilent) {
    MemoryPoolManager pool(options());
    pool.deallocate(pool.allocate(1000));
    (void)recorded_lines();
    for (int call = 0; call < 100; ++call)
        pool.deallocate(pool.allocate(1000));
    EXPECT_EQ(recorded_lines().size(), 0u);
}

TEST(Trace, OutOfMemoryIsAMark) {
    PoolOptions small = options();
    small.max_bytes = 4 * MiB;
    MemoryPoolManager pool(small);
    pool.deallocate(pool.allocate(1));
    (void)recorded_lines();
    EXPECT_EQ(pool.try_allocate(5 * MiB), nullptr);
    EXPECT_NE(recorded().find("mark 1 out of memory 1 5242880/1/" + number_of(pool) + "\n"), std::string::npos);
}

TEST(Trace, CountersFollowTheArenas) {
    MemoryPoolManager pool(options());
    pool.reserve(64 * MiB);
    void* const block = pool.allocate(10 * MiB);
    (void)recorded_lines();
    pool.reserve(128 * MiB);
    auto last = last_values(recorded_lines(), "cuda_zstd pool " + number_of(pool) + " ");
    const std::size_t mapped = pool.get_pool_size();
    EXPECT_EQ(last.size(), 6u);
    EXPECT_EQ(last["bytes in use"], std::to_string(10 * MiB));
    EXPECT_EQ(last["bytes mapped"], std::to_string(mapped));
    EXPECT_EQ(last["bytes free"], std::to_string(mapped - 10 * MiB));
    EXPECT_EQ(last["bytes cached"], "0");
    EXPECT_EQ(last["largest free run"], std::to_string(pool.statistics().largest_free_block_bytes));
    EXPECT_EQ(last["fragmentation"], std::to_string(pool.statistics().fragmentation()));
    pool.deallocate(block);
}

TEST(Trace, CoarseRangesOfEightThreadsAreBalanced) {
    PoolOptions limited = options();
    limited.max_bytes = 256 * MiB;
    MemoryPoolManager pool(limited);
    (void)recorded_lines();
    random_calls(pool, 300);
    const Nesting nesting(recorded_lines());
    EXPECT_GT(nesting.ranges.at("allocate, miss"), 0u);
    EXPECT_GT(nesting.ranges.at("grow"), 0u);
    EXPECT_GT(nesting.ranges.at("trim"), 0u);
    EXPECT_EQ(nesting.ranges.count("deallocate"), 0u);
}

TEST(Trace, OthersMayUseTheDomain) {
    static const TraceName name("compaction", TraceCategory::compact);
    { const TraceRange first(name); } // makes NVTX load the recorder
    (void)recorded();
    {
        const TraceRange outer(name, 77);
        static const TraceName inner_name("wave", TraceCategory::wave);
        const TraceRange inner(inner_name);
    }
    EXPECT_EQ(recorded(), "push 1 compaction 5 77\npush 1 wave 6 0\npop 1\npop 1\n");
}

TEST(Trace, ARegisteredStreamHasAName) {
    MemoryPoolManager pool(options());
    const cudaStream_t stream = pool.backend().create_stream();
    const std::string name = std::to_string(pool.backend().stream_id(stream)) + " of cuda_zstd pool " + number_of(pool);
    (void)recorded();
    {
        const RegisteredStream first(pool, stream);
        EXPECT_EQ(recorded(), "resource stream " + name + "\n");
        const RegisteredStream second(pool, stream);
        EXPECT_EQ(recorded(), "") << "the stream has its name";
    }
    EXPECT_EQ(recorded(), "resource gone stream " + name + "\n");
    pool.backend().destroy_stream(stream);
}

} // namespace
} // namespace cuda_zstd::test

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    const std::string suite = testing::GTEST_FLAG(filter);
    const char* mode = "coarse";
    if (suite.starts_with("TraceFine.")) mode = "fine";
    if (suite.starts_with("TraceOff")) mode = "off";
    if (suite == "*" && !testing::GTEST_FLAG(list_tests)) testing::GTEST_FLAG(filter) = "Trace.*";
    // Before the first NVTX call of the process.
    setenv("NVTX_INJECTION64_PATH", NVTX_RECORDER, 1);
    setenv("CUDA_ZSTD_POOL_NVTX", mode, 1);
    if (suite.starts_with("TraceMemoryAlone.")) setenv("NVTX_RECORDER_MEMORY_ALONE", "1", 1);
    if (suite.starts_with("TraceHeaps.") || suite.starts_with("TraceMemoryAlone."))
        setenv("NVTX_RECORDER_HEAPS", "1", 1);
    return RUN_ALL_TESTS();
}
