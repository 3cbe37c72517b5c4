// SPDX-License-Identifier: MIT
// What a profiler would see, taken by a recorder that NVTX loads. The mode is the process's, so a process runs the
// tests of one suite: Trace (coarse), TraceFine, TraceOff, or TraceHeaps, whose recorder takes arenas as well. The
// filter says which; ctest runs each test alone.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

struct Line {
    unsigned thread = 0;
    std::string text;
};

std::vector<Line> recorded_lines() {
    // NVTX has loaded the recorder by now; this finds the same copy.
    static void* library = dlopen(NVTX_RECORDER, RTLD_NOW | RTLD_NOLOAD);
    if (library == nullptr) return {};
    static const auto take = reinterpret_cast<std::size_t (*)(char*, std::size_t)>(dlsym(library, "take_recorded"));
    std::vector<char> text(1 << 20);
    for (std::size_t bytes = take(text.data(), text.size()); bytes > text.size();
         bytes = take(text.data(), text.size()))
        text.resize(bytes);
    std::istringstream from(text.data());
    std::vector<Line> lines;
    for (Line line; from >> line.thread && std::getline(from >> std::ws, line.text);)
        lines.push_back(line);
    return lines;
}

/// The lines of all threads, without the thread and without counters.
std::string recorded() {
    std::string text;
    for (const Line& line : recorded_lines())
        if (!line.text.starts_with("counter ")) text += line.text + "\n";
    return text;
}

PoolOptions options() {
    PoolOptions made;
    made.backend = BackendKind::host;
    made.diagnostics = nullptr;
    return made;
}

/// Random calls on 8 threads, each with a stream; every block is freed.
void random_calls(MemoryPoolManager& pool, unsigned calls) {
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 8; ++number)
        threads.emplace_back([&pool, number, calls] {
            std::mt19937 random(number + 1);
            const cudaStream_t stream = pool.backend().create_stream();
            std::vector<void*> blocks;
            for (unsigned call = 0; call < calls; ++call) {
                const auto choice = random() % 100;
                if (choice < 45) {
                    if (void* block = pool.try_allocate(1 + random() % (std::size_t{1} << random() % 22), stream))
                        blocks.push_back(block);
                } else if (choice < 92 && !blocks.empty()) {
                    std::swap(blocks[random() % blocks.size()], blocks.back());
                    pool.deallocate(blocks.back(), stream);
                    blocks.pop_back();
                } else if (choice < 95) {
                    pool.trim(8 * MiB);
                } else if (choice < 97) {
                    EXPECT_THROW(pool.allocate(0, stream), usage_error);
                } else if (choice < 99) {
                    EXPECT_THROW(pool.deallocate(&pool, stream), usage_error);
                } else {
                    EXPECT_EQ(pool.try_allocate(std::size_t{1} << 50, stream), nullptr);
                }
            }
            for (void* block : blocks)
                pool.deallocate(block, stream);
            pool.backend().destroy_stream(stream);
        });
    for (std::thread& thread : threads)
        thread.join();
}

/// Follows every thread's ranges: each pop has its push, and nothing is left open.
struct Nesting {
    std::map<unsigned, std::vector<std::string>> open;
    std::map<std::string, std::uint64_t> ranges;
    std::map<std::string, std::uint64_t> marks;

    explicit Nesting(const std::vector<Line>& lines) {
        for (const Line& line : lines) {
            auto& stack = open[line.thread];
            if (line.text.starts_with("push 1 ")) {
                const std::string name = line.text.substr(7, line.text.find_last_of(' ') - 9);
                if (name == "grow") {
                    EXPECT_TRUE(!stack.empty() && (stack.back() == "allocate, miss" || stack.back() == "reserve"))
                        << "growth outside of a miss";
                }
                ++ranges[name];
                stack.push_back(name);
            } else if (line.text == "pop 1") {
                EXPECT_FALSE(stack.empty()) << "a range ends that has not begun";
                if (!stack.empty()) stack.pop_back();
            } else if (line.text.starts_with("mark 1 ")) {
                ++marks[line.text.substr(7, line.text.find_last_of(' ') - 9)];
            }
        }
        for (const auto& [thread, stack] : open)
            EXPECT_TRUE(stack.empty()) << "thread " << thread << " leaves " << stack.back() << " open";
    }
};

TEST(Trace, HostCallsGrowthAndTrimAreRanges) {
    {
        MemoryPoolManager pool(options());
        pool.deallocate(pool.allocate(3 * MiB));
        pool.reserve(40 * MiB);
        pool.trim();
        pool.reset();
    }
    const std::string text = recorded();
    ASSERT_NE(text, "") << "NVTX has not loaded the recorder";
    EXPECT_NE(text.find("domain cuda_zstd\n"), std::string::npos);
    for (const char* category : {"category 1 allocate\n", "category 2 free\n", "category 3 grow\n", "category 4 trim\n",
                                 "category 5 compact\n", "category 6 wave\n"})
        EXPECT_NE(text.find(category), std::string::npos) << category;
    EXPECT_NE(text.find("schema pool call bytes@0 stream@8 pool@16\n"), std::string::npos) << text;
    // Growth is inside the allocation that needs it; what follows is no miss and makes no range.
    EXPECT_NE(text.find("push 1 allocate, miss 1 3145728/1/0\npush 1 grow 3 3145728\npop 1\npop 1\n"
                        "push 1 reserve 3 41943040/0/0\npop 1\npush 1 trim 4 0/0/0\n"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("mark 1 evict 4 "), std::string::npos) << text;
    EXPECT_NE(text.find("push 1 reset 4 0/0/0\n"), std::string::npos) << text;
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
    EXPECT_NE(recorded().find("mark 1 out of memory 1 5242880/1/0\n"), std::string::npos);
}

TEST(Trace, CountersFollowTheArenas) {
    MemoryPoolManager pool(options());
    pool.reserve(64 * MiB);
    void* const block = pool.allocate(10 * MiB);
    (void)recorded_lines();
    pool.reserve(128 * MiB);
    std::map<std::string, std::string> last;
    for (const Line& line : recorded_lines())
        if (line.text.starts_with("counter cuda_zstd pool 0 ")) {
            const auto equals = line.text.find(" = ");
            last[line.text.substr(25, equals - 25)] = line.text.substr(equals + 3);
        }
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

TEST(TraceFine, RangesCloseWhenACallThrows) {
    MemoryPoolManager pool(options());
    pool.deallocate(pool.allocate(1)); // the first range makes NVTX load the recorder
    (void)recorded();
    EXPECT_THROW(pool.allocate(0), usage_error);
    EXPECT_EQ(recorded(), "push 1 allocate 1 0/1/0\nmark 1 refused 1 0/1/0\npop 1\n");
    EXPECT_THROW(pool.deallocate(&pool), usage_error);
    EXPECT_EQ(recorded(), "push 1 deallocate 2 0/1/0\npop 1\n");
}

TEST(TraceFine, EveryCallOfEightThreadsIsARangeWithItsOutcome) {
    PoolOptions limited = options();
    limited.max_bytes = 256 * MiB;
    MemoryPoolManager pool(limited);
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
        if (line.text.starts_with("counter cuda_zstd pool 0 bytes in use")) in_use = line.text;
    EXPECT_NE(in_use, "");
}

TEST(TraceOff, NothingIsLoadedAndNothingSaid) {
    MemoryPoolManager pool(options());
    random_calls(pool, 50);
    static const TraceName name("compaction", TraceCategory::compact);
    { const TraceRange range(name); }
    EXPECT_EQ(dlopen(NVTX_RECORDER, RTLD_NOW | RTLD_NOLOAD), nullptr);
}

TEST(TraceOff, AModeThatIsNoneIsRefused) {
    setenv("CUDA_ZSTD_POOL_NVTX", "loud", 1);
    try {
        MemoryPoolManager pool(options());
        FAIL();
    } catch (const configuration_error& error) {
        EXPECT_NE(std::string(error.what()).find("CUDA_ZSTD_POOL_NVTX=loud"), std::string::npos) << error.what();
    }
}

struct Regions {
    std::map<std::uintptr_t, std::size_t> heaps;
    std::map<std::uintptr_t, std::size_t> regions;
    std::size_t named = 0;
    std::size_t resets = 0;

    static std::uintptr_t address(const std::string& text) { return std::stoull(text, nullptr, 16); }

    void read(const std::vector<Line>& lines) {
        for (const Line& line : lines) {
            std::istringstream words(line.text);
            std::string first, second, third, in, heap;
            words >> first >> second >> third;
            if (first == "heap" && second == "gone") {
                EXPECT_EQ(heaps.erase(address(third)), 1u);
            } else if (first == "heap" && second == "reset") {
                ++resets;
                regions.clear();
            } else if (first == "heap") {
                heaps[address(second)] = std::stoull(third);
            } else if (first == "region" && second == "gone") {
                EXPECT_EQ(regions.erase(address(third)), 1u) << line.text;
            } else if (first == "region" && second == "name") {
                EXPECT_EQ(regions.count(address(third)), 1u);
                ++named;
            } else if (first == "region") {
                words >> in >> heap;
                const auto begin = address(second);
                const auto bytes = std::stoull(third);
                EXPECT_EQ(heaps.count(address(heap)), 1u);
                EXPECT_LE(begin + bytes, address(heap) + heaps[address(heap)]);
                const auto after = regions.lower_bound(begin);
                EXPECT_TRUE(after == regions.end() || after->first >= begin + bytes) << "regions overlap";
                EXPECT_TRUE(after == regions.begin() || std::prev(after)->first + std::prev(after)->second <= begin)
                    << "regions overlap";
                regions[begin] = bytes;
            }
        }
    }
};

TEST(TraceHeaps, BlocksAreRegionsOfTheirArena) {
    Regions seen;
    {
        MemoryPoolManager pool(options());
        void* const block = pool.allocate(1000);
        void* const large = pool.allocate(3 * MiB);
        void* const arena = pool.allocate_device_arena(2 * MiB, nullptr);
        seen.read(recorded_lines());
        ASSERT_EQ(seen.heaps.size(), 1u);
        EXPECT_EQ(seen.regions.size(), 3u);
        EXPECT_EQ(seen.regions[reinterpret_cast<std::uintptr_t>(block)], 1000u);
        EXPECT_EQ(seen.regions[reinterpret_cast<std::uintptr_t>(large)], 3 * MiB);
        EXPECT_EQ(seen.regions[reinterpret_cast<std::uintptr_t>(arena)], 2 * MiB);
        EXPECT_EQ(seen.named, 3u);
        // A free that is refused leaves the region.
        EXPECT_THROW(pool.deallocate(arena), usage_error);
        EXPECT_THROW(pool.deallocate(static_cast<char*>(block) + 8), usage_error);
        seen.read(recorded_lines());
        EXPECT_EQ(seen.regions.size(), 3u);
        pool.release_device_arena(arena, nullptr);
        pool.deallocate(large);
        seen.read(recorded_lines());
        EXPECT_EQ(seen.regions.size(), 1u);
        pool.reset();
        seen.read(recorded_lines());
        EXPECT_EQ(seen.resets, 1u);
        EXPECT_EQ(seen.regions.size(), 0u);
    }
    seen.read(recorded_lines());
    EXPECT_TRUE(seen.heaps.empty());
}

TEST(TraceHeaps, RegionsOfEightThreadsNeverOverlap) {
    Regions seen;
    {
        MemoryPoolManager pool(options());
        random_calls(pool, 500);
    }
    seen.read(recorded_lines());
    EXPECT_TRUE(seen.regions.empty());
    EXPECT_TRUE(seen.heaps.empty());
    EXPECT_GT(seen.named, 100u);
}

} // namespace
} // namespace cuda_zstd

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    const std::string suite = testing::GTEST_FLAG(filter);
    const char* mode = "coarse";
    if (suite.starts_with("TraceFine.")) mode = "fine";
    if (suite.starts_with("TraceOff.")) mode = "off";
    if (suite == "*" && !testing::GTEST_FLAG(list_tests)) testing::GTEST_FLAG(filter) = "Trace.*";
    // Before the first NVTX call of the process.
    setenv("NVTX_INJECTION64_PATH", NVTX_RECORDER, 1);
    setenv("CUDA_ZSTD_POOL_NVTX", mode, 1);
    if (suite.starts_with("TraceHeaps.")) setenv("NVTX_RECORDER_HEAPS", "1", 1);
    return RUN_ALL_TESTS();
}
