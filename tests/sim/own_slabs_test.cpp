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
