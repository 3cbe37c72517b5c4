// SPDX-License-Identifier: MIT
// What the pool counts of each stream, whoever serves it: a magazine, the pools, or a thread that is gone.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"
#include "stream_counts.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

class StreamStatistics : public testing::Test {
protected:
    static PoolOptions options() {
        PoolOptions made;
        made.backend = BackendKind::host;
        made.max_bytes = 256 * MiB;
        made.diagnostics = nullptr;
        return made;
    }
    StreamShare share_of(cudaStream_t stream) const {
        const std::uint64_t id = backend_.stream_id(stream);
        for (const StreamShare& share : pool_.stream_statistics())
            if (share.stream_id == id) return share;
        return {};
    }

    Backend& backend_ = Backend::get(BackendKind::host);
    MemoryPoolManager pool_{options()};
    const cudaStream_t one_ = backend_.create_stream();
    const cudaStream_t two_ = backend_.create_stream();
    void TearDown() override {
        backend_.destroy_stream(one_);
        backend_.destroy_stream(two_);
    }
};

TEST_F(StreamStatistics, EachStreamHasItsOwn) {
    std::vector<void*> of_one;
    for (const std::size_t bytes : {std::size_t{100}, 100 * std::size_t{1000}, 2 * MiB})
        for (unsigned i = 0; i < 10; ++i) {
            void* block = pool_.allocate(bytes, one_);
            if (i < 4)
                of_one.push_back(block);
            else
                pool_.deallocate(block, i % 2 == 0 ? one_ : two_);
        }
    StreamShare share = share_of(one_);
    EXPECT_EQ(share.allocations, 30u);
    EXPECT_EQ(share.deallocations, 9u);
    EXPECT_EQ(share.live_blocks, 12u);
    EXPECT_EQ(share.allocated_bytes, 4 * (100 + 100 * 1000 + 2 * MiB));
    EXPECT_EQ(share_of(two_).allocations, 0u);
    EXPECT_EQ(share_of(two_).deallocations, 9u);
    EXPECT_EQ(share_of(two_).live_blocks, 0u);
    for (void* block : of_one)
        pool_.deallocate(block, one_);
    share = share_of(one_);
    EXPECT_EQ(share.deallocations, 21u);
    EXPECT_EQ(share.live_blocks, 0u);
    EXPECT_LT(share.hits, share.allocations);
    EXPECT_GT(share.hits, 0u);
}

TEST_F(StreamStatistics, TheSumIsThePools) {
    constexpr unsigned threads = 4;
    std::vector<std::thread> workers;
    for (unsigned t = 0; t < threads; ++t)
        workers.emplace_back([&, t] {
            // More streams than a thread has magazines, so that some lose theirs.
            std::vector<cudaStream_t> streams(40);
            for (cudaStream_t& stream : streams)
                stream = backend_.create_stream();
            for (unsigned i = 0; i < 400; ++i) {
                const cudaStream_t stream = streams[(i + t) % streams.size()];
                pool_.deallocate(pool_.allocate(1000 + i, stream), stream);
                if (i % 7 == 0) pool_.deallocate(pool_.allocate(MiB / 2, stream), stream);
            }
            for (const cudaStream_t stream : streams)
                backend_.destroy_stream(stream);
        });
    for (std::thread& worker : workers)
        worker.join();
    const PoolStatistics all = pool_.statistics();
    std::uint64_t hits = 0;
    for (const PoolShare& pool : all.pools)
        hits += pool.hits;
    StreamShare sum;
    for (const StreamShare& share : pool_.stream_statistics()) {
        sum.allocations += share.allocations;
        sum.deallocations += share.deallocations;
        sum.hits += share.hits;
    }
    EXPECT_EQ(sum.allocations, all.allocations);
    EXPECT_EQ(sum.deallocations, all.deallocations);
    EXPECT_EQ(sum.hits, hits);
}

TEST_F(StreamStatistics, AResetKeepsTheCounts) {
    (void)pool_.allocate(1000, one_);
    pool_.deallocate(pool_.allocate(1000, one_), one_);
    pool_.reset();
    EXPECT_EQ(share_of(one_).allocations, 2u);
    EXPECT_EQ(share_of(one_).live_blocks, 0u);
}

TEST(StreamCounts, StreamsOfLongAgoAreCountedTogether) {
    detail::StreamCounts counts;
    for (std::uint64_t id = 1; id <= 5000; ++id)
        counts.add(id, {2, 1, 1});
    std::uint64_t allocations = counts.others().allocations;
    std::size_t streams = 0;
    bool has_last = false;
    counts.for_each([&](std::uint64_t id, const detail::StreamCount& count) {
        ++streams;
        allocations += count.allocations;
        has_last |= id == 5000;
    });
    EXPECT_LE(streams, detail::StreamCounts::most_streams);
    EXPECT_TRUE(has_last);
    EXPECT_EQ(allocations, 10000u);
}

} // namespace
} // namespace cuda_zstd
