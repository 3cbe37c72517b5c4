// SPDX-License-Identifier: MIT
// Each invariant of the heap, broken by hand: the audit names it, and where.
#include "arena.hpp"

#include "cuda_zstd/heap/audit.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

class Audit : public ::testing::Test {
protected:
    /// Slabs of two classes, full and partly free ones, and runs.
    void SetUp() override {
        for (int i = 0; i < 40; ++i)
            small_.push_back(take(1000));
        for (int i = 0; i < 9; ++i)
            half_pages_.push_back(take(32768));
        run_ = take(3 * page_bytes);
        for (int i = 0; i < 40; i += 3)
            give(small_[i]);
        give(half_pages_[0]);
    }
    void* take(std::size_t bytes) {
        Status status = Status::ok;
        void* const block = heap_.allocate(env_, 1, bytes, 16, status);
        EXPECT_NE(block, nullptr);
        return block;
    }
    void give(void* block) { EXPECT_EQ(heap_.deallocate(env_, 1, block), Status::ok); }
    std::uint32_t page_of(const void* block) const {
        return static_cast<std::uint32_t>((static_cast<const char*>(block) - heap_.pages_base()) >> page_shift);
    }
    std::uint32_t slab_of(const void* block) const {
        return page_of(block) - PageEntry{entries()[page_of(block)]}.pages_before();
    }
    std::uint64_t* words() const { return arena_.at<std::uint64_t>(arena_.layout.slab_words_offset); }
    std::uint32_t* entries() const { return arena_.at<std::uint32_t>(arena_.layout.page_entries_offset); }
    std::uint32_t* page_bits() const { return arena_.at<std::uint32_t>(arena_.layout.page_bits_offset); }
    std::uint32_t* slot_bits(std::uint32_t page) const {
        return arena_.at<std::uint32_t>(arena_.layout.slot_bits_offset) + std::size_t{page} * slot_words_per_page;
    }
    std::uint32_t free_page() const {
        for (std::uint32_t page = 0;; ++page)
            if ((page_bits()[page / 32] >> (page % 32) & 1u) != 0) return page;
    }
    AuditFinding audit() {
        std::vector<std::uint64_t> work(HeapAudit<solo_env>::work_bytes(arena_.layout.page_count) / 8 + 1);
        return audit_heap(env_, heap_, work.data());
    }
    void expect_broken(Invariant invariant, std::uint32_t where) {
        const AuditFinding finding = audit();
        EXPECT_EQ(finding.broken, invariant) << name_of(finding.broken);
        EXPECT_EQ(finding.where, where);
        EXPECT_FALSE(static_cast<bool>(finding));
    }

    Arena arena_{std::size_t{4} << 20};
    Heap<solo_env> heap_ = Heap<solo_env>::over(arena_.memory.get(), arena_.layout);
    solo_env env_;
    std::vector<void*> small_;
    std::vector<void*> half_pages_;
    void* run_ = nullptr;
};

TEST_F(Audit, FindsNothingInAHeapThatIsRight) {
    const AuditFinding finding = audit();
    EXPECT_TRUE(static_cast<bool>(finding)) << name_of(finding.broken) << ": " << finding.where;
    while (heap_.supply().reclaim(env_)) {
    }
    EXPECT_TRUE(static_cast<bool>(audit()));
}
TEST_F(Audit, ACreditTooMany) {
    const std::uint32_t slab = slab_of(small_[1]);
    words()[slab] += SlabWord::credit(1);
    const AuditFinding finding = audit();
    EXPECT_EQ(finding.broken, Invariant::credits_are_free_slots);
    EXPECT_EQ(finding.where, slab);
    EXPECT_EQ(finding.found, finding.expected + 1);
}
TEST_F(Audit, ABitLost) {
    const std::uint32_t slab = slab_of(small_[1]);
    std::uint32_t* bits = slot_bits(slab);
    while (*bits == 0)
        ++bits; // the slab has live blocks
    *bits &= *bits - 1;
    expect_broken(Invariant::credits_are_free_slots, slab);
}
TEST_F(Audit, ABitBehindTheLastSlot) {
    const std::uint32_t slab = slab_of(half_pages_[3]);
    slot_bits(slab)[slot_words_per_page - 1] = 1u << 31;
    expect_broken(Invariant::slots_belong_to_slabs, slab);
}
TEST_F(Audit, ABitOfAFreePage) {
    const std::uint32_t page = free_page();
    slot_bits(page)[3] = 2;
    expect_broken(Invariant::slots_belong_to_slabs, page);
}
TEST_F(Audit, ASlabThatIsNotListed) {
    const std::uint32_t slab = slab_of(small_[1]);
    words()[slab] &= ~SlabWord::listed_bit;
    expect_broken(Invariant::listed_slabs_are_reached_once, slab);
}
TEST_F(Audit, ASlabOutOfReach) {
    const std::uint32_t slab = slab_of(small_[1]);
    words()[slab] &= ~SlabWord::listed_bit;
    for (unsigned station = 0; station < arena_.layout.stations; ++station) {
        heap_.supply().cursor_of(size_class_of(1000), station).value = 0;
        heap_.supply().list_of(size_class_of(1000), station).head->value = 0;
    }
    expect_broken(Invariant::credits_are_in_reach, slab);
}
TEST_F(Audit, AListThatNamesAnotherClass) {
    const std::uint32_t slab = slab_of(half_pages_[3]);
    heap_.supply().list_of(3, 0).head->value = slab + 1;
    expect_broken(Invariant::lists_name_slabs_of_their_class, slab);
}
TEST_F(Audit, AListThatRunsInACircle) {
    const std::uint32_t slab = slab_of(half_pages_[3]);
    const unsigned size_class = size_class_of(32768);
    heap_.supply().list_of(size_class, 0).head->value = slab + 1;
    heap_.supply().next[slab].value = slab + 1;
    const AuditFinding finding = audit();
    EXPECT_TRUE(finding.broken == Invariant::lists_end || finding.broken == Invariant::listed_slabs_are_reached_once)
        << name_of(finding.broken);
}
TEST_F(Audit, AnEntryOfASlabLost) {
    const std::uint32_t page = page_of(small_[1]);
    entries()[page] ^= 1u << 16;
    expect_broken(Invariant::entries_match_slabs, page);
}
TEST_F(Audit, AFreePageWithAnEntry) {
    const std::uint32_t page = free_page();
    entries()[page] = PageEntry::of_run(1).raw;
    expect_broken(Invariant::free_pages_hold_nothing, page);
}
TEST_F(Audit, ARunWithAFreePage) {
    const std::uint32_t page = page_of(run_);
    page_bits()[(page + 2) / 32] |= 1u << ((page + 2) % 32);
    expect_broken(Invariant::runs_are_whole, page);
}
TEST_F(Audit, APageThatIsNobodys) {
    const std::uint32_t page = free_page();
    page_bits()[page / 32] &= ~(1u << (page % 32));
    expect_broken(Invariant::pages_have_owners, page);
}
TEST_F(Audit, AWrongCountOfFreePages) {
    ++heap_.control(ControlCell::free_pages).value;
    expect_broken(Invariant::free_pages_counted, 0);
}
TEST_F(Audit, ACursorThatIsBeingRefilled) {
    heap_.supply().cursor_of(7, 0).value |= Cursor::busy_bit;
    expect_broken(Invariant::no_refill_at_rest, 7 * arena_.layout.stations);
}
TEST_F(Audit, AMoveThatDidNotEnd) {
    heap_.supply().stations.begin_move(env_);
    expect_broken(Invariant::no_move_at_rest, 0);
}

} // namespace
