// SPDX-License-Identifier: MIT
// The steps of a quiet compaction, one by one: a heap that was left after any of them is in order, and what is in reach
// without a free slot is found again when it has one.
#include "arena.hpp"

#include "cuda_zstd/heap/audit.hpp"
#include "cuda_zstd/heap/compact_quiet.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

class QuietSteps : public ::testing::Test {
protected:
    QuietSteps() {
        work_.page_count = arena_.layout.page_count;
        memory_ = std::unique_ptr<void, Freer>(std::aligned_alloc(128, round_up<std::size_t>(work_.bytes(), 128)));
        std::memset(memory_.get(), 0, work_.bytes());
        work_.base = static_cast<char*>(memory_.get());
    }
    void* take(std::size_t bytes) {
        Status status = Status::ok;
        return heap_.allocate(env_, 1, bytes, 16, status);
    }
    void give(void* block) { EXPECT_EQ(heap_.deallocate(env_, 1, block), Status::ok); }
    AuditFinding audit() {
        std::vector<std::uint64_t> work(HeapAudit<solo_env>::work_bytes(arena_.layout.page_count) / 8 + 1);
        return audit_heap(env_, heap_, work.data());
    }
    /// All of a compaction, or its first `steps` steps (the sort is one).
    void compact(unsigned steps = 4) {
        ASSERT_TRUE(begin_launch(env_, work_, 1, size_class_count * arena_.layout.stations));
        const QuietCompaction<solo_env> compaction(heap_, work_);
        for (std::uint32_t page = 0; steps >= 1 && page < work_.page_count; ++page) {
            const std::uint16_t rank = compaction.rank(env_, page);
            if (compaction.is_place(rank))
                env_.fetch_add(work_.state().ranked[SlabRank::size_class(rank)], 1u, Order::relaxed);
        }
        for (std::uint32_t cell = 0; steps >= 2 && cell < compaction.station_cells(); ++cell)
            compaction.keep(env_, cell);
        if (steps >= 3) {
            std::uint32_t* const sorted = work_.sorted_slabs();
            std::iota(sorted, sorted + work_.page_count, 0u);
            std::stable_sort(sorted, sorted + work_.page_count,
                             [&](std::uint32_t a, std::uint32_t b) { return work_.ranks()[a] < work_.ranks()[b]; });
            for (std::uint32_t at = 0; at < work_.page_count; ++at)
                work_.sorted_ranks()[at] = work_.ranks()[sorted[at]];
        }
        if (steps >= 4) apply(compaction);
        end_launch(env_, work_);
    }
    void apply(const QuietCompaction<solo_env>& compaction) {
        std::uint32_t begin_of[size_class_count + 1] = {};
        for (unsigned index = 0; index < size_class_count; ++index)
            begin_of[index + 1] = begin_of[index] + env_.load(work_.state().ranked[index], Order::relaxed);
        // Workers come in any order.
        for (std::uint32_t index = std::max(work_.page_count, compaction.station_cells()); index-- != 0;) {
            const std::uint32_t pages = compaction.apply(env_, index, begin_of);
            compaction.add_free_pages(env_, pages != 0, pages);
        }
    }

    Arena arena_{std::size_t{8} << 20};
    Heap<solo_env> heap_ = Heap<solo_env>::over(arena_.memory.get(), arena_.layout);
    solo_env env_;
    CompactionWork work_;
    std::unique_ptr<void, Freer> memory_;
};

TEST_F(QuietSteps, AHeapThatIsLeftAfterAnyStepIsInOrder) {
    std::vector<void*> kept;
    for (const unsigned steps : {0u, 1u, 2u, 3u, 4u, 2u, 4u}) {
        std::vector<void*> gone;
        for (unsigned count = 0; count < 600; ++count) {
            void* const block = take(200 + count % 7 * 300);
            ASSERT_NE(block, nullptr);
            (count % 41 == 0 ? kept : gone).push_back(block);
        }
        for (void* block : gone)
            give(block);
        compact(steps);
        const AuditFinding finding = audit();
        EXPECT_EQ(finding.broken, Invariant::none) << steps << " steps: " << name_of(finding.broken);
    }
    for (void* block : kept)
        give(block);
    compact();
    EXPECT_EQ(audit().broken, Invariant::none);
    EXPECT_EQ(env_.load(heap_.control(ControlCell::free_pages), Order::relaxed), arena_.layout.page_count);
}

/// A reserver that came late can take the last slots of a slab that is on a list.
TEST_F(QuietSteps, ASlabInReachWithoutASlotIsNotLost) {
    std::vector<void*> blocks;
    while (void* const block = take(30000))
        blocks.push_back(block);
    give(blocks.back());
    blocks.pop_back();
    give(blocks.front()); // its slab is listed
    const auto page =
        static_cast<std::uint32_t>((static_cast<char*>(blocks.front()) - heap_.pages_base()) >> page_shift);
    const PageEntry entry{env_.load(heap_.supply().entries[page], Order::relaxed)};
    const std::uint32_t slab = page - entry.pages_before();
    std::uint32_t returned = 0;
    const SlabGrant grant = heap_.supply().slabs.reserve(env_, slab, entry.slot_size().size_class(), 1, returned);
    ASSERT_EQ(grant.count, 1u);
    const std::uint32_t slot = heap_.supply().slabs.find_slot(env_, slab, grant.start, 0);
    ASSERT_NE(slot, no_slot);
    ASSERT_TRUE(heap_.supply().word(env_, slab).listed());
    ASSERT_EQ(heap_.supply().word(env_, slab).credits(), 0);
    EXPECT_EQ(audit().broken, Invariant::none);
    compact();
    EXPECT_EQ(audit().broken, Invariant::none) << name_of(audit().broken);
    for (void* block : blocks)
        give(block);
    compact();
    EXPECT_EQ(audit().broken, Invariant::none);
    EXPECT_EQ(env_.load(heap_.control(ControlCell::free_pages), Order::relaxed), arena_.layout.page_count);
}

} // namespace
