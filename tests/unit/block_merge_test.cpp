// SPDX-License-Identifier: MIT
// Which free blocks become one, and when: those that are freed side by side, and those whose work is done.
#include "cuda_zstd/host/block_heap.hpp"
#include "manual_backend.hpp"
#include "strategies.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace cuda_zstd::detail {
namespace {

constexpr unsigned granules = 64;

class BlockMerge : public testing::TestWithParam<Strategy> {
protected:
    /// A region that is cut into live blocks of one granule each, in the order of their addresses.
    void cut(BlockHeap& heap) {
        Block& all =
            heap.make(region_, reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40), granules * granule_bytes);
        region_.first = &all;
        heap.give(all, {});
        for (unsigned i = 0; i < granules; ++i)
            blocks_.push_back(heap.take_ready(granule_bytes, granule_bytes, 1).block);
        std::sort(blocks_.begin(), blocks_.end(), [](const Block* a, const Block* b) { return a->ptr < b->ptr; });
        ASSERT_EQ(heap.free_blocks(), 0u);
    }
    /// What a pool does with a block that is freed; whether it was merged.
    static bool free(BlockHeap& heap, Block& block, Dependencies dependencies) {
        block.dependencies = std::move(dependencies);
        Block* const one = &block;
        if (!heap.post({&one, 1})) return false;
        heap.receive([](const Block&) {});
        heap.merge_pending(block);
        return true;
    }
    Dependencies behind(std::uint64_t id) { return Dependencies(order_.record({ManualBackend::handle(id), id})); }
    std::string check(BlockHeap& heap) { return heap.check({&region_}); }

    ManualBackend backend_{2};
    StreamOrder order_{backend_};
    Region region_;
    std::vector<Block*> blocks_;
};

TEST_P(BlockMerge, AgesAreInTheOrderOfTheFrees) {
    BlockHeap heap(GetParam(), order_);
    cut(heap);
    // From high addresses to low ones, all within a tick of the clock, and no two beside each other.
    std::vector<const Block*> freed;
    for (unsigned i = granules - 1; i < granules; i -= 2) {
        (void)free(heap, *blocks_[i], {});
        freed.push_back(blocks_[i]);
    }
    heap.receive([](const Block&) {});
    heap.settle();
    const std::vector<Block*> by_age = heap.settled_by_age(granule_bytes);
    EXPECT_TRUE(std::equal(by_age.begin(), by_age.end(), freed.begin(), freed.end()));
}

TEST_P(BlockMerge, NeighboursThatAreFreedOneAfterTheOtherBecomeOne) {
    for (const bool upwards : {true, false}) {
        BlockHeap heap(GetParam(), order_);
        blocks_.clear();
        cut(heap);
        unsigned merges = 0;
        for (unsigned i = 0; i < granules; ++i)
            merges += free(heap, *blocks_[upwards ? i : granules - 1 - i], {});
        EXPECT_EQ(merges, (granules - 1) / 16);
        EXPECT_EQ(heap.free_blocks(), 1u) << "before any search";
        EXPECT_EQ(check(heap), "");
        heap.receive([](const Block&) {});
        EXPECT_EQ(heap.free_bytes(), granules * granule_bytes);
        EXPECT_EQ(heap.take_ready(granules * granule_bytes, granule_bytes, 1).block->bytes, granules * granule_bytes);
    }
}

TEST_P(BlockMerge, BlocksThatLieApartAreLeftToTheNextSearch) {
    BlockHeap heap(GetParam(), order_);
    cut(heap);
    for (unsigned i = 0; i < granules; i += 2)
        EXPECT_FALSE(free(heap, *blocks_[i], {}));
    heap.receive([](const Block&) {});
    EXPECT_EQ(heap.free_blocks(), granules / 2);
    heap.file_pending();
    EXPECT_EQ(check(heap), "");
}

/// A stream never waits for another one because of a neighbour.
TEST_P(BlockMerge, BlocksOfTwoStreamsStayApart) {
    BlockHeap heap(GetParam(), order_);
    cut(heap);
    backend_.submit(1);
    backend_.submit(2);
    unsigned merges = 0;
    for (unsigned i = 0; i < 34; ++i)
        merges += free(heap, *blocks_[i], behind(i < 17 ? 1 : 2));
    EXPECT_EQ(merges, 2u);
    heap.receive([](const Block&) {});
    heap.file_pending();
    EXPECT_EQ(check(heap), "");
    EXPECT_EQ(heap.free_blocks(), 2u);
    const Taken first = heap.take_ready(17 * granule_bytes, granule_bytes, 1);
    ASSERT_TRUE(first);
    EXPECT_EQ(first.dependencies.sole_stream(), 1u);
    EXPECT_FALSE(heap.take_ready(granule_bytes, granule_bytes, 1)) << "the rest is the other stream's";
    EXPECT_TRUE(heap.take_ready(17 * granule_bytes, granule_bytes, 2));
}

/// To ask for the stream's own ticket would make its next free record, and the stream has no use for that.
TEST_P(BlockMerge, ASearchAsksForTheTicketsOfOthers) {
    BlockHeap heap(GetParam(), order_);
    cut(heap);
    const TicketRef first = order_.defer({ManualBackend::handle(1), 1}, granule_bytes);
    const TicketRef second = order_.defer({ManualBackend::handle(2), 2}, granule_bytes);
    free(heap, *blocks_[0], Dependencies(first));
    free(heap, *blocks_[2], Dependencies(second));
    Dependencies both(first);
    both.add(second);
    free(heap, *blocks_[4], std::move(both));
    heap.receive([](const Block&) {});
    EXPECT_FALSE(heap.take_ready(2 * granule_bytes, granule_bytes, 1));
    EXPECT_FALSE(first->wanted);
    EXPECT_TRUE(second->wanted);
    EXPECT_FALSE(heap.take_ready(2 * granule_bytes, granule_bytes, 2));
    EXPECT_TRUE(first->wanted);
}

/// But where little is to be mapped: what is known to be done is merged.
TEST_P(BlockMerge, ASearchAsksForItsOwnTicketsWhereHolesAreToBeFew) {
    BlockHeap heap(GetParam(), order_, Settling::where_none_fits_exactly);
    cut(heap);
    const TicketRef own = order_.defer({ManualBackend::handle(1), 1}, granule_bytes);
    free(heap, *blocks_[0], Dependencies(own));
    free(heap, *blocks_[2], Dependencies(own));
    heap.receive([](const Block&) {});
    EXPECT_TRUE(heap.take_ready(granule_bytes, granule_bytes, 1)) << "fits";
    EXPECT_FALSE(own->wanted);
    EXPECT_FALSE(heap.take_ready(granule_bytes + 1, granule_bytes, 1)) << "more than is free";
    free(heap, *blocks_[4], Dependencies(own));
    heap.receive([](const Block&) {});
    EXPECT_FALSE(heap.take_ready(2 * granule_bytes, granule_bytes, 1));
    EXPECT_TRUE(own->wanted);
}

/// What was merged waits for the last of its parts.
TEST_P(BlockMerge, OneBlockWaitsForAllThatItsPartsDid) {
    BlockHeap heap(GetParam(), order_);
    cut(heap);
    for (unsigned i = 0; i < 17; ++i) {
        backend_.submit(1);
        free(heap, *blocks_[16 - i], behind(1));
    }
    EXPECT_EQ(heap.free_blocks(), 1u);
    backend_.advance(1, 16);
    EXPECT_FALSE(heap.take_ready(granule_bytes, granule_bytes, 2));
    backend_.advance(1, 17);
    EXPECT_TRUE(heap.take_ready(17 * granule_bytes, granule_bytes, 2));
    EXPECT_EQ(check(heap), "");
}

/// Between the post and the merge anybody may have taken it.
TEST_P(BlockMerge, ABlockThatIsTakenAgainIsLeftAlone) {
    BlockHeap heap(GetParam(), order_);
    cut(heap);
    for (unsigned i = 1; i < 3; ++i) {
        Block* const one = blocks_[i];
        heap.post({&one, 1});
    }
    heap.receive([](const Block&) {});
    Block* const taken = heap.take_ready(granule_bytes, granule_bytes, 1).block;
    heap.merge_pending(*taken);
    EXPECT_EQ(taken->state, Block::State::live);
    EXPECT_EQ(taken->bytes, granule_bytes);
    EXPECT_EQ(heap.free_bytes(), granule_bytes);
    EXPECT_EQ(check(heap), "");
}

/// A hole of two granules that the stream is done with lies beside a settled one of two; a third one is larger.
TEST_P(BlockMerge, ADoneNeighbourCountsWhereNoneFitsExactly) {
    for (const Settling settling : {Settling::after_a_miss, Settling::where_none_fits_exactly}) {
        BlockHeap heap(GetParam(), order_, settling);
        blocks_.clear();
        cut(heap);
        const auto give = [&](unsigned from, unsigned to, bool is_done) {
            for (unsigned i = from; i < to; ++i)
                heap.give(*blocks_[i], is_done ? Dependencies() : behind(1));
        };
        std::byte* const low = blocks_[8]->ptr;
        std::byte* const high = blocks_[40]->ptr;
        backend_.submit(1);
        give(8, 10, true);
        give(40, 50, true);
        heap.file_pending();
        give(10, 12, false);
        heap.file_pending();
        backend_.synchronize();
        const Taken taken = heap.take_ready(3 * granule_bytes, granule_bytes, 1);
        ASSERT_TRUE(taken);
        EXPECT_EQ(taken.block->ptr, settling == Settling::after_a_miss ? high : low);
        EXPECT_EQ(check(heap), "");
        // What fits exactly is taken as it is, with what it waits for: the stream has had it from itself.
        backend_.submit(1);
        heap.give(*taken.block, behind(1));
        heap.file_pending();
        backend_.synchronize();
        EXPECT_EQ(heap.take_ready(3 * granule_bytes, granule_bytes, 1).dependencies.sole_stream(), 1u);
    }
}

INSTANTIATE_TEST_SUITE_P(Strategies, BlockMerge, every_strategy(), name_of_strategy);

} // namespace
} // namespace cuda_zstd::detail
