// SPDX-License-Identifier: MIT
// What a tool that checks memory is told: arenas as heaps, blocks as regions. main() is in trace_test.cpp.
#include "trace_recorded.hpp"

#include <cstdint>
#include <map>
#include <sstream>
#include <string>

namespace cuda_zstd::test {
namespace {

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
                std::string what;
                words >> what;
                EXPECT_TRUE(what == "block" || what == "device") << line.text;
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

/// compute-sanitizer of CUDA 13.4 and before has no use for domains: it may give none.
TEST(TraceMemoryAlone, BlocksAreRegionsWithoutADomain) {
    Regions seen;
    {
        MemoryPoolManager pool(options());
        void* const block = pool.allocate(1000);
        void* const large = pool.allocate(64 * MiB);
        seen.read(recorded_lines());
        ASSERT_EQ(seen.heaps.size(), 1u);
        EXPECT_EQ(seen.regions[reinterpret_cast<std::uintptr_t>(block)], 1000u);
        EXPECT_EQ(seen.regions[reinterpret_cast<std::uintptr_t>(large)], 64 * MiB);
        EXPECT_EQ(seen.named, 2u);
        pool.deallocate(block);
        seen.read(recorded_lines());
        EXPECT_EQ(seen.regions.size(), 1u);
        pool.reset();
        seen.read(recorded_lines());
        EXPECT_EQ(seen.resets, 1u);
    }
    seen.read(recorded_lines());
    EXPECT_TRUE(seen.heaps.empty());
    EXPECT_TRUE(registrations().empty()) << "a domain was made";
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
} // namespace cuda_zstd::test
