// SPDX-License-Identifier: MIT
// The mistakes that a hardened build finds, each made by hand; and that it finds none in programs that make none.
#include "arena.hpp"

#include "cuda_zstd/device/hardened_heap.hpp"
#include "cuda_zstd/env/sim_env.hpp"
#include "cuda_zstd/heap/audit.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;
static_assert(Hardening::quarantine_blocks == 8);

class HardenedHeapTest : public ::testing::Test {
protected:
    char* take(std::size_t bytes, std::uint32_t alignment = 16) {
        Status status = Status::ok;
        auto* const block = static_cast<char*>(heap_.allocate(env_, 1, bytes, alignment, status));
        EXPECT_EQ(status == Status::ok, block != nullptr);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0u);
        return block;
    }
    Status give(void* block) { return heap_.deallocate(env_, 1, block); }
    FaultReport faults() { return heap_.state().faults(env_); }
    void expect_all_free() {
        heap_.release_quarantine(env_, 1);
        while (heap_.supply().reclaim(env_)) {
        }
        std::vector<std::uint64_t> work(HeapAudit<solo_env>::work_bytes(arena_.layout.page_count) / 8 + 1);
        EXPECT_TRUE(static_cast<bool>(audit_heap(env_, heap_.inner(), work.data())));
        EXPECT_EQ(heap_.control(ControlCell::free_pages).value, arena_.layout.page_count);
    }

    Arena arena_{std::size_t{4} << 20};
    HardenedHeap<solo_env> heap_ = HardenedHeap<solo_env>::over(arena_.memory.get(), arena_.layout);
    solo_env env_;
};

TEST_F(HardenedHeapTest, RightUseIsNoFault) {
    std::vector<char*> blocks;
    for (const std::uint32_t alignment : {16u, 64u, 4096u, 65536u})
        for (const std::size_t bytes : {1u, 16u, 100u, 5000u, 40000u, 200000u}) {
            char* const block = take(bytes, alignment);
            ASSERT_NE(block, nullptr) << bytes;
            EXPECT_EQ(heap_.usable_size(env_, block), bytes);
            std::memset(block, 0x5a, bytes);
            blocks.push_back(block);
        }
    for (char* block : blocks)
        EXPECT_EQ(give(block), Status::ok);
    for (int round = 0; round < 100; ++round) {
        char* const block = take(100);
        std::memset(block, round, 100);
        EXPECT_EQ(give(block), Status::ok);
    }
    const FaultReport report = faults();
    EXPECT_EQ(report.red_zones + report.writes_after_free + report.never_allocated + report.double_frees, 0u);
    EXPECT_EQ(report.first, Fault::none);
    expect_all_free();
}
TEST_F(HardenedHeapTest, ADoubleFreeWithinTheQuarantine) {
    char* const block = take(100);
    EXPECT_EQ(give(block), Status::ok);
    for (int other = 0; other < 7; ++other) { // the block is still held
        char* const next = take(100);
        EXPECT_NE(next, block);
        EXPECT_EQ(give(next), Status::ok);
    }
    EXPECT_EQ(give(block), Status::double_free);
    EXPECT_EQ(heap_.control(ControlCell::double_frees).value, 1u);
    EXPECT_EQ(give(take(100)), Status::ok);
    EXPECT_EQ(give(block), Status::double_free) << "freed long ago, and not handed out again";
    EXPECT_EQ(faults().double_frees, 2u);
    EXPECT_EQ(faults().first, Fault::double_free);
    expect_all_free();
}
TEST_F(HardenedHeapTest, ForeignInteriorAndMisalignedPointers) {
    char* const block = take(5000);
    char on_stack[64];
    EXPECT_EQ(give(on_stack + 16), Status::foreign);
    EXPECT_EQ(give(arena_.memory.get()), Status::foreign);
    EXPECT_EQ(give(block + 1), Status::interior);
    EXPECT_EQ(give(block + 16), Status::interior);
    EXPECT_EQ(give(block + 4096), Status::interior);
    EXPECT_EQ(give(heap_.pages_base()), Status::interior);
    char* const run = take(200000);
    EXPECT_EQ(give(run + 64), Status::interior);
    EXPECT_EQ(give(run + page_bytes), Status::interior);
    EXPECT_EQ(heap_.control(ControlCell::invalid_frees).value, 8u);
    EXPECT_EQ(give(block), Status::ok);
    EXPECT_EQ(give(run), Status::ok);
    EXPECT_EQ(faults().first, Fault::none);
    expect_all_free();
}
TEST_F(HardenedHeapTest, ASlotThatWasNeverHandedOut) {
    char* const block = take(1000); // its slab's other slots are nobody's
    const auto slot_bytes =
        static_cast<std::ptrdiff_t>(heap_.inner().usable_size(env_, block - HardenedHeap<solo_env>::header_bytes));
    const auto in_page = (block - heap_.pages_base()) % static_cast<std::ptrdiff_t>(page_bytes);
    char* const other = in_page >= slot_bytes ? block - slot_bytes : block + slot_bytes;
    EXPECT_EQ(give(other), Status::never_allocated);
    EXPECT_EQ(faults().never_allocated, 1u);
    EXPECT_EQ(faults().first_address, reinterpret_cast<std::uint64_t>(other));
    EXPECT_EQ(give(block), Status::ok);
    expect_all_free();
}
TEST_F(HardenedHeapTest, AByteBehindTheBlock) {
    for (const std::size_t bytes : {100u, 1000u, 40000u}) {
        char* const block = take(bytes);
        const char kept = block[bytes];
        block[bytes] = 1;
        EXPECT_EQ(give(block), Status::corrupted) << bytes;
        block[bytes] = kept;
        EXPECT_EQ(give(block), Status::ok) << "it stayed as it was";
    }
    EXPECT_EQ(faults().red_zones, 3u);
    EXPECT_EQ(faults().first, Fault::red_zone);
    expect_all_free();
}
TEST_F(HardenedHeapTest, AByteBeforeTheBlock) {
    char* const block = take(100);
    block[-1] ^= 1;
    EXPECT_EQ(give(block), Status::corrupted);
    block[-1] ^= 1;
    block[-64] ^= 1; // the number that says it is live
    EXPECT_EQ(give(block), Status::corrupted);
    block[-64] ^= 1;
    EXPECT_EQ(give(block), Status::ok);
    EXPECT_EQ(faults().red_zones, 2u);
    expect_all_free();
}
TEST_F(HardenedHeapTest, AWriteAfterTheFree) {
    char* const block = take(100);
    EXPECT_EQ(give(block), Status::ok);
    block[50] = 1;
    EXPECT_EQ(faults().writes_after_free, 0u);
    for (int other = 0; other < 8; ++other) // pushes it out of the quarantine
        EXPECT_EQ(give(take(3000)), Status::ok);
    EXPECT_EQ(faults().writes_after_free, 1u);
    EXPECT_EQ(faults().first_address, reinterpret_cast<std::uint64_t>(block));
    expect_all_free();
}
TEST_F(HardenedHeapTest, AWriteBetweenQuarantineAndReuse) {
    char* const block = take(2000);
    EXPECT_EQ(give(block), Status::ok);
    heap_.release_quarantine(env_, 1);
    block[1999] = 1;
    EXPECT_EQ(faults().writes_after_free, 0u);
    std::vector<char*> taken;
    do {
        taken.push_back(take(2000));
        ASSERT_NE(taken.back(), nullptr) << "the block did not come back";
    } while (taken.back() != block);
    EXPECT_EQ(faults().writes_after_free, 1u);
    for (char* each : taken)
        EXPECT_EQ(give(each), Status::ok);
    expect_all_free();
}
TEST_F(HardenedHeapTest, AFullHeapTakesTheQuarantineBack) {
    std::vector<char*> blocks;
    for (char* block = take(200000); block != nullptr; block = take(200000))
        blocks.push_back(block);
    ASSERT_GT(blocks.size(), 8u);
    char* const freed = blocks.back();
    blocks.pop_back();
    EXPECT_EQ(give(freed), Status::ok);
    char* const again = take(200000);
    EXPECT_NE(again, nullptr);
    blocks.push_back(again);
    for (char* block : blocks)
        EXPECT_EQ(give(block), Status::ok);
    expect_all_free();
}

/// Lanes of two warps that take, give, and free a block of another lane at the same time as its owner: one is told ok.
TEST(HardenedHeapInTheSimulator, OfTwoFreesAtOnceOneIsTold) {
    using Env = sim_env<2>;
    sim::Simulation simulation({});
    solo_env solo;
    for (std::uint64_t seed = 1; seed <= 400; ++seed) {
        const Arena arena(std::size_t{1} << 20);
        const auto heap = HardenedHeap<Env>::over(arena.memory.get(), arena.layout);
        void* shared[2] = {};
        unsigned freed[2] = {};
        unsigned arrived = 0;
        sim::ScheduleSpec spec;
        spec.seed = seed;
        spec.policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
        const sim::Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            Env env(simulation, thread);
            Status status = Status::ok;
            void* const own = heap.allocate(env, env.converged(), 500 + thread, 16, status);
            if (own == nullptr) simulation.fail("a new heap is full");
            if (thread % 2 == 0) shared[thread / 2] = own;
            for (++arrived; arrived < 4;)
                env.pause(0);
            // Both lanes of a warp free the other warp's shared block, as does its owner.
            void* const target = shared[1 - thread / 2];
            freed[1 - thread / 2] += heap.deallocate(env, env.converged(), target) == Status::ok;
            if (thread % 2 == 0) {
                freed[thread / 2] += heap.deallocate(env, env.converged(), own) == Status::ok;
            } else if (heap.deallocate(env, env.converged(), own) != Status::ok) {
                simulation.fail("a good free was refused");
            }
        });
        ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.message;
        EXPECT_EQ(freed[0], 1u) << "seed " << seed;
        EXPECT_EQ(freed[1], 1u) << "seed " << seed;
        const auto at_rest = HardenedHeap<solo_env>::over(arena.memory.get(), arena.layout);
        at_rest.release_quarantine(solo, 1);
        while (at_rest.supply().reclaim(solo)) {
        }
        ASSERT_EQ(at_rest.control(ControlCell::free_pages).value, arena.layout.page_count) << "seed " << seed;
        const FaultReport report = at_rest.state().faults(solo);
        EXPECT_EQ(report.double_frees, 4u) << "seed " << seed << ": three frees of each of two blocks";
        EXPECT_EQ(report.red_zones + report.writes_after_free + report.never_allocated, 0u) << "seed " << seed;
        EXPECT_EQ(report.first, Fault::double_free);
        EXPECT_EQ(report.record_count, 4u);
    }
}

} // namespace
