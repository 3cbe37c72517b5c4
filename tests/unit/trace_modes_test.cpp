// SPDX-License-Identifier: MIT
// NVTX in fine mode and switched off; main() is in trace_test.cpp.
#include "trace_recorded.hpp"

#include <cstdlib>
#include <string>

namespace cuda_zstd::test {
namespace {

TEST(TraceFine, RangesCloseWhenACallThrows) {
    MemoryPoolManager pool(options());
    pool.deallocate(pool.allocate(1)); // the first range makes NVTX load the recorder
    (void)recorded();
    const std::string number = number_of(pool);
    EXPECT_THROW(pool.allocate(0), usage_error);
    EXPECT_EQ(recorded(), "push 1 allocate 1 0/1/" + number + "\nmark 1 refused 1 0/1/" + number + "\npop 1\n");
    EXPECT_THROW(pool.deallocate(&pool), usage_error);
    EXPECT_EQ(recorded(), "push 1 deallocate 2 0/1/" + number + "\npop 1\n");
}

TEST(TraceFine, EveryCallOfEightThreadsIsARangeWithItsOutcome) {
    PoolOptions limited = options();
    limited.max_bytes = 256 * MiB;
    MemoryPoolManager pool(limited);
    (void)recorded_lines();
    random_calls(pool, 500);
    const PoolStatistics statistics = pool.statistics();
    const std::vector<Line> lines = recorded_lines();
    const Nesting nesting(lines);
    const auto marks = [&](const char* name) {
        const auto found = nesting.marks.find(name);
        return found == nesting.marks.end() ? 0 : found->second;
    };
    EXPECT_EQ(marks("hit") + marks("larger pool") + marks("miss"), statistics.allocations);
    EXPECT_EQ(marks("no memory"), statistics.failed_allocations);
    EXPECT_EQ(marks("out of memory"), statistics.failed_allocations);
    EXPECT_EQ(marks("hit"), [&] {
        std::uint64_t hits = 0;
        for (const PoolShare& share : statistics.pools)
            hits += share.hits;
        return hits;
    }());
    EXPECT_EQ(nesting.ranges.at("try_allocate"), statistics.allocations + statistics.failed_allocations);
    EXPECT_EQ(nesting.ranges.at("allocate"), marks("refused"));
    EXPECT_GE(nesting.ranges.at("deallocate"), statistics.deallocations);
    // The counters end where the pool does.
    std::string in_use;
    for (const Line& line : lines)
        if (line.text.starts_with("counter cuda_zstd pool " + number_of(pool) + " bytes in use")) in_use = line.text;
    EXPECT_NE(in_use, "");
}

TEST(TraceOff, NothingIsLoadedAndNothingSaid) {
    MemoryPoolManager pool(options());
    random_calls(pool, 50);
    static const TraceName name("compaction", TraceCategory::compact);
    { const TraceRange range(name); }
    EXPECT_EQ(dlopen(NVTX_RECORDER, RTLD_NOW | RTLD_NOLOAD), nullptr);
}

TEST(TraceOffDeathTest, AModeThatIsNoneIsRefused) {
    // In a process of its own: the mode is read once.
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    EXPECT_EXIT(
        {
            setenv("CUDA_ZSTD_POOL_NVTX", "loud", 1);
            try {
                const MemoryPoolManager pool(options());
            } catch (const configuration_error& error) {
                std::fputs(error.what(), stderr);
                std::exit(0);
            }
            std::exit(1);
        },
        testing::ExitedWithCode(0), "CUDA_ZSTD_POOL_NVTX=loud");
}

} // namespace
} // namespace cuda_zstd::test
