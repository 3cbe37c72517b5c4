// SPDX-License-Identifier: MIT
// A heap that drains takes the pages in front as long as it pays: what searches for them may cost is bounded, for runs
// as for slabs.
#include "arena.hpp"

#include "cuda_zstd/heap/chunks.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

class Draining : public ::testing::Test {
protected:
    static constexpr std::size_t run_bytes = 4 * std::size_t{page_bytes};

    char* take(std::size_t bytes) {
        Status status = Status::ok;
        return static_cast<char*>(heap_.allocate(env_, 1, bytes, 16, status));
    }
    void give(void* block) { EXPECT_EQ(heap_.deallocate(env_, 1, block), Status::ok); }
    std::uint32_t page_of(const char* block) const {
        return static_cast<std::uint32_t>((block - heap_.pages_base()) >> page_shift);
    }
    void drain() { HeapChunks<solo_env>(heap_, 32).set_extent(env_, arena_.layout.page_count, near_pages_); }
    bool drains() { return heap_.supply().pages.near_now(env_) != 0; }

    Arena arena_{std::size_t{256} << 20};
    Heap<solo_env> heap_ = Heap<solo_env>::over(arena_.memory.get(), arena_.layout);
    solo_env env_;
    const std::uint32_t near_pages_ = arena_.layout.page_count / 2 / 32 * 32;
    /// Requests whose searches pass all near words, before they have passed what they may.
    const unsigned most_requests_ = most_drain_words / (near_pages_ / 32);
};

TEST_F(Draining, RunsTakeTheFirstPlaceInFront) {
    drain();
    std::vector<char*> runs;
    for (unsigned count = 0; count < 100; ++count) {
        runs.push_back(take(run_bytes));
        EXPECT_EQ(page_of(runs.back()), count * 4);
    }
    give(runs[17]);
    give(runs[50]);
    EXPECT_EQ(page_of(take(run_bytes)), 17u * 4);
    EXPECT_TRUE(drains());
}

TEST_F(Draining, EndsForRunsThatFindNoPlaceInFront) {
    drain();
    std::vector<char*> pairs;
    for (std::uint32_t page = 0; page < near_pages_; page += 2)
        pairs.push_back(take(2 * std::size_t{page_bytes}));
    for (std::size_t at = 0; at < pairs.size(); at += 2)
        give(pairs[at]); // holes that are too small
    drain();
    unsigned requests = 0;
    for (; drains() && requests <= most_requests_ + 1; ++requests) {
        char* const run = take(run_bytes);
        ASSERT_NE(run, nullptr);
        ASSERT_GE(page_of(run) + 4, near_pages_);
        give(run);
    }
    EXPECT_FALSE(drains());
    EXPECT_GT(requests, most_requests_ / 4) << "too early is no draining";
    drain();
    EXPECT_TRUE(drains()) << "the next trim begins anew";
}

TEST_F(Draining, EndsForRunsThatFindTheirPlaceFarBehind) {
    char* const holder = take((near_pages_ - 4) * std::size_t{page_bytes});
    ASSERT_NE(holder, nullptr);
    drain();
    unsigned requests = 0;
    for (; drains() && requests <= most_requests_ + 1; ++requests)
        give(take(run_bytes));
    EXPECT_FALSE(drains());
    EXPECT_GT(requests, most_requests_ / 4);
}

/// Who grows is short of pages, and not of chunks that fill up: runs stay together, and slabs are made as ever.
TEST_F(Draining, GoesOnForRunsWhenTheHeapGrows) {
    const HeapChunks<solo_env> chunks(heap_, 32);
    const std::uint32_t all_pages = arena_.layout.page_count / 32 * 32;
    const PageMap<solo_env>& map = heap_.supply().pages;
    chunks.set_extent(env_, all_pages - 32, 0);
    chunks.set_extent(env_, all_pages, chunks.near_as_it_drains);
    EXPECT_FALSE(drains()) << "it did not drain before";
    char* const holder = take((near_pages_ - 4) * std::size_t{page_bytes});
    chunks.set_extent(env_, all_pages - 32, near_pages_);
    EXPECT_TRUE(map.has_far(env_));
    give(take(run_bytes));
    const std::uint32_t left = env_.load(*map.drain_words, Order::relaxed);
    EXPECT_LT(left, most_drain_words);
    chunks.set_extent(env_, all_pages, chunks.near_as_it_drains);
    EXPECT_EQ(env_.load(*map.drain_words, Order::relaxed), left) << "growth buys no further searches";
    EXPECT_FALSE(map.has_far(env_));
    EXPECT_FALSE(map.is_far(env_, all_pages - 1));
    char* const first = take(run_bytes);
    for (unsigned count = 1; count < 20; ++count)
        EXPECT_EQ(page_of(take(run_bytes)), page_of(first) + count * 4);
    give(first);
    EXPECT_EQ(take(run_bytes), first);
    give(holder);
    EXPECT_EQ(page_of(take(run_bytes)), 0u);
}

} // namespace
