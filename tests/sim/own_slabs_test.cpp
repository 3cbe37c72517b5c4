// SPDX-License-Identifier: MIT
// Groups whose blocks fill a slab of their own, under many schedules.
#include "run_on_heap.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

namespace cuda_zstd::test {
namespace {

Scenario one_warp(std::uint32_t pages) {
    Scenario scenario;
    scenario.warps = 1;
    scenario.pages = pages;
    scenario.slab_log2_pages = 1;
    return scenario;
}

std::size_t page_of(const char* base, const void* block) {
    return static_cast<std::size_t>(static_cast<const char*>(block) - base) >> page_shift;
}

template <class Env>
void expect(Env& env, bool holds, const char* what) {
    if (!holds) env.simulation().fail(what);
}

TEST(OwnSlabs, WarpsThatFillTheHeapAreAllServed) {
    Scenario scenario = three_warps(6);
    scenario.slab_log2_pages = 1;
    run_on_heap<4>(scenario, 3000, [](auto& env, const auto& pool, std::uint64_t) {
        for (unsigned round = 0; round < 2; ++round) {
            Status status;
            auto* const block =
                static_cast<std::uint32_t*>(pool.heap().allocate(env, 0xfu, max_slot_bytes, min_slot_bytes, status));
            expect(env, block != nullptr && status == Status::ok, "a group was refused");
            *block = env.thread();
            env.pause(0);
            expect(env, *block == env.thread(), "two have one block");
            pool.heap().deallocate(env, 0xfu, block);
        }
    });
}

TEST(OwnSlabs, WhatAGroupLeavesGoesBeforeNewPages) {
    // Nine slots of 14 KiB in two pages, of which the group takes eight.
    run_on_heap<8>(one_warp(4), 500, [](auto& env, const auto& pool, std::uint64_t) {
        Status status;
        void* const block = pool.heap().allocate(env, 0xffu, 14u << 10, min_slot_bytes, status);
        expect(env, block != nullptr && page_of(pool.heap().pages_base(), block) < 2, "a block lies elsewhere");
        if (env.lane() == 3) {
            void* const ninth = pool.heap().allocate(env, 1u << 3, 14u << 10, min_slot_bytes, status);
            expect(env, ninth != nullptr && page_of(pool.heap().pages_base(), ninth) < 2, "the rest was left");
            pool.heap().deallocate(env, 1u << 3, ninth);
        }
        env.sync(0xffu);
        pool.deallocate(env, block);
    });
}

TEST(OwnSlabs, ANewSlabIsWhereTheRoverIsAndItsRestIsListed) {
    TinyArena arena;
    const HeapLayout layout = arena.reset(one_warp(8));
    const auto heap = Heap<solo_env>::over(arena.base(), layout);
    const auto& supply = heap.supply();
    const unsigned size_class = size_class_of(14u << 10);
    solo_env env;
    ASSERT_TRUE(supply.fills_a_slab(size_class, 8));
    EXPECT_FALSE(supply.fills_a_slab(size_class, 4)) << "less than a page";
    EXPECT_FALSE(supply.fills_a_slab(size_class, 5)) << "little of two pages";
    const SlabGrant whole = supply.take_own_slab(env, size_class, 9);
    EXPECT_EQ(whole.count, 9u);
    EXPECT_EQ(whole.start, 0u);
    EXPECT_FALSE(supply.word(env, whole.slab).listed());
    const SlabGrant most = supply.take_own_slab(env, size_class, 8);
    EXPECT_EQ(most.count, 8u);
    EXPECT_EQ(most.start, 1u);
    EXPECT_NE(most.slab, whole.slab);
    EXPECT_TRUE(supply.word(env, most.slab).listed());
    EXPECT_EQ(supply.take_own_slab(env, size_class, 8).count, 0u) << "what is listed goes before new pages";
    EXPECT_EQ(supply.search_own_slab(env, size_class, 8).count, 1u);
    EXPECT_EQ(heap.control(ControlCell::free_pages).value, 4u);
}

TEST(OwnSlabs, APlaceThatIsTakenInPartIsLeftAsItWas) {
    TinyArena arena;
    Scenario scenario = one_warp(8);
    const HeapLayout layout = arena.reset(scenario);
    const auto heap = Heap<solo_env>::over(arena.base(), layout);
    const PageMap<solo_env>& pages = heap.supply().pages;
    solo_env env;
    const auto free_pages = [&] { return heap.control(ControlCell::free_pages).value; };
    ASSERT_TRUE(pages.claim_at(env, 2, 2));
    EXPECT_EQ(free_pages(), 6u);
    EXPECT_FALSE(pages.claim_at(env, 2, 2));
    EXPECT_FALSE(pages.claim_at(env, 0, 4));
    EXPECT_EQ(free_pages(), 6u);
    EXPECT_EQ(pages.bits[0].value, 0xf3u);
    EXPECT_TRUE(pages.claim_at(env, 0, 2));
    EXPECT_TRUE(pages.claim_at(env, 4, 4));
    EXPECT_EQ(pages.bits[0].value, 0u);
    EXPECT_EQ(free_pages(), 0u);
}

/// A processor's groups of two pages each, with slabs of up to four.
Scenario with_shared_slab(std::uint32_t pages) {
    Scenario scenario = one_warp(pages);
    scenario.slab_log2_pages = 2;
    return scenario;
}

/// Such a processor by itself, with 16 pages; its groups are of the largest slots.
class OwnSlabsAlone : public testing::Test {
protected:
    TinyArena arena;
    const Heap<solo_env> heap = Heap<solo_env>::over(arena.base(), arena.reset(with_shared_slab(16)));
    const SlabSupply<solo_env>& supply = heap.supply();
    const unsigned size_class = size_class_of(max_slot_bytes);
    solo_env env;
};

TEST(OwnSlabs, TheFirstGroupsShareASlabAndComeBackToIt) {
    run_on_heap<4>(with_shared_slab(16), 300, [](auto& env, const auto& pool, std::uint64_t) {
        const auto take = [&] {
            Status status;
            void* const block = pool.heap().allocate(env, 0xfu, max_slot_bytes, min_slot_bytes, status);
            expect(env, block != nullptr, "a group was refused");
            return block;
        };
        const auto slab_of = [&](const void* block) { return page_of(pool.heap().pages_base(), block) / 4; };
        const std::size_t shared = slab_of(env.shfl(0xfu, take(), 0));
        for (unsigned round = 0; round < 3; ++round) {
            void* const second = take();
            void* const third = take();
            void* const fourth = take();
            expect(env, slab_of(second) == shared, "the shared slab was not used up");
            expect(env, slab_of(third) != shared && slab_of(fourth) != shared, "a slab holds more than there is room");
            pool.deallocate(env, third);
            pool.deallocate(env, second);
            pool.deallocate(env, fourth);
            env.sync(0xfu);
        }
        for (std::uint32_t slot = 0; slot < 8; ++slot) { // the first group's four are among them
            char* const at = pool.heap().pages_base() + (shared * 4 * page_bytes) + slot * std::size_t{max_slot_bytes};
            if (env.lane() == 0) pool.deallocate(env, at);
        }
    });
}

TEST_F(OwnSlabsAlone, ASlabThatIsUsedUpIsSetAsideAndTakenUpAgain) {
    auto& cell = supply.cursor_of(size_class, 0);
    bool lacks_shared = false;
    EXPECT_EQ(supply.take_shared(env, size_class, 4, Cursor{cell.value}, lacks_shared).count, 0u);
    EXPECT_TRUE(lacks_shared);
    const SlabGrant first = supply.bring_shared(env, Cursor{cell.value}, size_class, 4);
    ASSERT_EQ(first.count, 4u);
    EXPECT_EQ(supply.word(env, first.slab).pages(), 4u);
    EXPECT_EQ(cell.value, Cursor::of(first.slab + 1u, 0).raw);
    std::uint32_t returned = 0;
    ASSERT_EQ(supply.slabs.reserve(env, first.slab, size_class, 4, returned).count, 4u);
    EXPECT_EQ(supply.take_shared(env, size_class, 4, Cursor{cell.value}, lacks_shared).count, 0u);
    EXPECT_EQ(cell.value, Cursor::of(0, first.slab + 1u).raw) << "it is not set aside";
    lacks_shared = false;
    EXPECT_EQ(supply.take_shared(env, size_class, 4, Cursor{cell.value}, lacks_shared).count, 0u);
    EXPECT_FALSE(lacks_shared) << "there is a slab of the largest size";
    (void)supply.slabs.add_credits(env, first.slab, 3);
    EXPECT_EQ(supply.take_shared(env, size_class, 4, Cursor{cell.value}, lacks_shared).count, 3u);
    EXPECT_EQ(cell.value, Cursor::of(first.slab + 1u, 0).raw) << "it is not taken up again";
    EXPECT_EQ(supply.word(env, first.slab).credits(), 0);
}

TEST_F(OwnSlabsAlone, NoSlabIsSharedWherePagesAreFew) {
    ASSERT_TRUE(heap.supply().pages.claim_at(env, 8, 8));
    EXPECT_EQ(heap.supply().bring_shared(env, Cursor{}, size_class, 4).count, 0u);
    EXPECT_EQ(heap.supply().cursor_of(size_class, 0).value, 0u);
    EXPECT_EQ(heap.control(ControlCell::free_pages).value, 8u);
}

TEST_F(OwnSlabsAlone, WhereNoPlaceIsFreeTheCursorIsLeftAlone) {
    ASSERT_TRUE(supply.pages.claim_at(env, 1, 1)) << "in the rover's next place";
    const std::uint64_t before = supply.stations.all_moves(env);
    for (unsigned groups = 0; groups < 3; ++groups)
        EXPECT_EQ(supply.bring_shared(env, Cursor{}, size_class, 4).count, 0u);
    EXPECT_EQ(supply.stations.all_moves(env), before) << "all groups would take turns at a cursor that gets nothing";
    EXPECT_EQ(heap.control(ControlCell::free_pages).value, 15u);
}

TEST_F(OwnSlabsAlone, WhatIsListedGoesBeforeANewSharedSlab) {
    ASSERT_EQ(heap.supply().take_own_slab(env, size_class, 3).start, 1u) << "one slot is left";
    EXPECT_EQ(heap.supply().bring_shared(env, Cursor{}, size_class, 4).count, 0u);
    EXPECT_EQ(heap.supply().cursor_of(size_class, 0).value, 0u);
}

TEST_F(OwnSlabsAlone, ASlabBehindTheNearPagesIsNotTakenUp) {
    ASSERT_TRUE(supply.pages.claim_at(env, 8, 4));
    (void)supply.slab_of_pages(env, 8, size_class, 2, 0);
    const Cursor aside = Cursor::of(0, 9);
    bool lacks_shared = false;
    auto& near_count = const_cast<std::uint32_t&>(supply.pages.near_count);
    near_count = 4;
    EXPECT_EQ(supply.take_shared(env, size_class, 4, aside, lacks_shared).count, 0u);
    near_count = 0;
    EXPECT_EQ(supply.take_shared(env, size_class, 4, aside, lacks_shared).count, 4u);
}

TEST_F(OwnSlabsAlone, WhatARoverWentBackForIsNotPassedOver) {
    const auto rovers = heap.supply().rovers(env);
    ASSERT_EQ(rovers.pass(env, 2, 5), 0u);
    EXPECT_EQ(rovers.pass_from(env, 8, 12, 2), 12u);
    rovers.go_back(env, 4);
    EXPECT_EQ(rovers.pass_from(env, 8, 12, 2), 4u);
}

TEST(OwnSlabs, SmallAndLargeGroupsOfOneClassMeet) {
    Scenario scenario = three_warps(24);
    scenario.slab_log2_pages = 2;
    run_on_heap<4>(scenario, 3000, [](auto& env, const auto& pool, std::uint64_t seed) {
        for (unsigned round = 0; round < 4; ++round) {
            // Now the whole warp, now a lane of it.
            const bool alone = ((seed + round + env.thread() / 4) & 1u) != 0;
            const LaneMask lanes = alone ? LaneMask{1} << env.lane() : 0xfu;
            Status status;
            auto* const block =
                static_cast<std::uint32_t*>(pool.heap().allocate(env, lanes, max_slot_bytes, min_slot_bytes, status));
            expect(env, block != nullptr, "a block was refused");
            *block = env.thread();
            env.pause(0);
            expect(env, *block == env.thread(), "two have one block");
            pool.heap().deallocate(env, lanes, block);
            env.sync(0xfu);
        }
    });
}

TEST_F(OwnSlabsAlone, BehindALargerSlabLiesTheNextPlace) {
    ASSERT_TRUE(supply.pages.claim_at(env, 0, 4));
    (void)supply.slab_of_pages(env, 0, size_class, 2, 0);
    EXPECT_EQ(supply.free_place_at_rover(env, 2), 4u);
    EXPECT_EQ(supply.free_place_at_rover(env, 2), 6u) << "the rover is behind the slab now";
    ASSERT_TRUE(supply.pages.claim_at(env, 8, 1));
    EXPECT_EQ(supply.free_place_at_rover(env, 2), no_page) << "no slab, so nothing tells where the next place is";
}

TEST(OwnSlabs, AFullHeapSaysSoToAGroup) {
    run_on_heap<4>(one_warp(2), 500, [](auto& env, const auto& pool, std::uint64_t) {
        Status status;
        void* const block = pool.heap().allocate(env, 0xfu, max_slot_bytes, min_slot_bytes, status);
        void* const more = pool.heap().allocate(env, 0xfu, max_slot_bytes, min_slot_bytes, status);
        expect(env, block != nullptr && more == nullptr && status == Status::full, "full was not said");
        pool.deallocate(env, block);
        env.sync(0xfu);
        void* const again = pool.heap().allocate(env, 0xfu, max_slot_bytes, min_slot_bytes, status);
        expect(env, again != nullptr, "what was freed was not served");
        pool.deallocate(env, again);
    });
}

} // namespace
} // namespace cuda_zstd::test
