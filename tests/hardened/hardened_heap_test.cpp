// SPDX-License-Identifier: MIT
// The mistakes that a hardened build finds, each made by hand; and that it finds none in programs that make none.
#include "arena.hpp"

#include "cuda_zstd/device/hardened_heap.hpp"
#include "cuda_zstd/env/sim_env.hpp"
#include "cuda_zstd/heap/audit.hpp"
#include "cuda_zstd/heap/chunks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;
static_assert(Hardening::quarantine_blocks == 8);

/// With no memory behind its pages yet (HeapChunks).
struct GrowingArena : Arena {
    explicit GrowingArena(std::size_t bytes) : Arena(bytes) {
        std::memset(memory.get(), 0, layout.metadata_bytes);
        solo_env env;
        HeapChunks<solo_env>::format(env, memory.get(), layout, 0, 1);
    }
};

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
    char* take_at(const char* base, std::size_t bytes, std::uint32_t alignment);
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
/// Takes blocks until one lies in the slot that begins at `base`; frees the others. Null if none does.
char* HardenedHeapTest::take_at(const char* base, std::size_t bytes, std::uint32_t alignment) {
    std::vector<char*> taken;
    char* found = nullptr;
    while (found == nullptr) {
        char* const block = take(bytes, alignment);
        if (block == nullptr) break;
        if (block - std::max(64u, alignment) == base)
            found = block;
        else
            taken.push_back(block);
    }
    for (char* each : taken)
        give(each);
    heap_.release_quarantine(env_, 1);
    return found;
}
/// A block of a larger alignment has its header further in front: the one before still has its own, and its bytes are
/// another's now.
TEST_F(HardenedHeapTest, AHeaderOfAnotherAlignmentIsNoWitness) {
    char* const narrow = take(3000);
    char* const base = narrow - 64;
    const std::size_t slot_bytes = heap_.inner().usable_size(env_, base);
    ASSERT_EQ(slot_bytes % 512, 0u);
    for (int round = 0; round < 3; ++round) {
        char* const block = round == 0 ? narrow : take_at(base, 3000, 16);
        ASSERT_EQ(block, narrow);
        std::memset(block, round, 3000);
        EXPECT_EQ(give(block), Status::ok);
        heap_.release_quarantine(env_, 1);
        char* const wide = take_at(base, slot_bytes - 512 - 32, 512);
        ASSERT_EQ(wide, base + 512);
        EXPECT_EQ(give(narrow), Status::double_free) << "its slot is another's";
        std::memset(wide, round, slot_bytes - 512 - 32);
        EXPECT_EQ(give(wide), Status::ok);
        heap_.release_quarantine(env_, 1);
    }
    EXPECT_EQ(faults().writes_after_free, 0u);
    EXPECT_EQ(faults().red_zones, 0u);
    expect_all_free();
}
/// What one alignment left behind is looked at for the next one, too.
TEST_F(HardenedHeapTest, AWriteBeforeTheSlotIsUsedWithAnotherAlignment) {
    char* const wide = take(2900, 512);
    char* const base = wide - 512;
    EXPECT_EQ(give(wide), Status::ok);
    heap_.release_quarantine(env_, 1);
    wide[2899] = 1;
    char* const narrow = take_at(base, 3000, 16);
    ASSERT_EQ(narrow, base + 64);
    EXPECT_EQ(faults().writes_after_free, 1u);
    EXPECT_EQ(faults().first_address, reinterpret_cast<std::uint64_t>(wide));
    EXPECT_EQ(give(narrow), Status::ok);
    expect_all_free();
}
/// Pages that were cut into slots, then otherwise, then as before; and the same with runs.
TEST_F(HardenedHeapTest, AHeaderOfAnotherSlabIsNoWitness) {
    // A slot of 2560 B begins where one of 8192 B has bytes that its block leaves alone, and ends in the next one.
    for (int round = 0; round < 2; ++round)
        for (const std::size_t bytes : {2400u, 7100u, 2400u, 150000u, 64000u, 200000u, 7100u, 150000u}) {
            std::vector<char*> blocks;
            for (int count = 0; count < 12; ++count) {
                blocks.push_back(take(bytes));
                ASSERT_NE(blocks.back(), nullptr);
                std::memset(blocks.back(), count, bytes);
            }
            for (char* block : blocks)
                EXPECT_EQ(give(block), Status::ok);
            expect_all_free();
        }
    EXPECT_EQ(faults().writes_after_free, 0u);
}
/// What a heap that grows is told to grow by is what the request will take.
TEST(HardenedHeapThatGrows, ARequestBeyondTheExtentHasRoomForItsHeader) {
    using Heaps = HardenedHeap<solo_env>;
    const GrowingArena arena(std::size_t{12} << 20);
    const auto heap = Heaps::over(arena.memory.get(), arena.layout);
    const HeapChunks<solo_env> chunks(heap.inner(), 32);
    solo_env env;
    chunks.open(env, 0);
    chunks.set_extent(env, 32, 0);
    for (const std::size_t bytes : {std::size_t{33} << page_shift, std::size_t{64} << page_shift}) {
        Status status = Status::ok;
        EXPECT_EQ(heap.allocate(env, 1, bytes, 16, status), nullptr);
        EXPECT_EQ(status, Status::full);
    }
    EXPECT_EQ(heap.control(ControlCell::first_failed_bytes).value,
              (33u << page_shift) + Heaps::header_bytes + Heaps::rear_bytes);
    Status status = Status::ok;
    EXPECT_EQ(heap.allocate(env, 1, ~std::size_t{0} - 10, 16, status), nullptr);
    EXPECT_EQ(status, Status::invalid);
    EXPECT_EQ(heap.allocate(env, 1, arena.layout.payload_bytes(), 16, status), nullptr);
    EXPECT_EQ(status, Status::invalid) << "with its header it is more than the heap may become";
}
/// The same beside the growth that makes room for it.
TEST(HardenedHeapInTheSimulator, ARequestBesideGrowthHasRoomForItsHeader) {
    using Env = sim_env<2>;
    sim::Simulation simulation({});
    unsigned served = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        const GrowingArena arena(std::size_t{12} << 20);
        const auto heap = HardenedHeap<Env>::over(arena.memory.get(), arena.layout);
        const HeapChunks<Env> chunks(heap.inner(), 32);
        const std::size_t bytes = std::size_t{33} << page_shift;
        sim::ScheduleSpec spec;
        spec.seed = seed;
        spec.policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
        const sim::Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            Env env(simulation, thread);
            if (thread == 0) {
                chunks.open(env, 0);
                chunks.set_extent(env, 32, 0);
                chunks.open(env, 1);
                chunks.open(env, 2);
                chunks.set_extent(env, 96, 0);
            } else if (thread == 2) {
                Status status = Status::ok;
                for (unsigned turn = 0; turn < 4; ++turn) {
                    auto* const block = static_cast<char*>(heap.allocate(env, env.converged(), bytes, 16, status));
                    if (block == nullptr) continue;
                    ++served;
                    if (heap.inner().usable_size(env, block - 64) < 64 + bytes + HardenedHeap<Env>::rear_bytes)
                        simulation.fail("a block reaches into what is behind it");
                    break;
                }
            }
        });
        ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.message;
    }
    EXPECT_GT(served, 8u);
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
