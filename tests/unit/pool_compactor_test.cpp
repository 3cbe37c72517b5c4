// SPDX-License-Identifier: MIT
// The host's side of compaction, on a heap of its own: what is refused while a pool ends, and that a launch which finds
// the work area taken changes nothing.
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/heap.hpp"
#include "cuda_zstd/host/error.hpp"
#include "pool_compactor.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <vector>

namespace {

using namespace cuda_zstd;
using detail::PoolCompactor;

struct Freer {
    void operator()(void* memory) const { std::free(memory); }
};

class Compactor : public ::testing::Test {
protected:
    static constexpr std::size_t arena_bytes = std::size_t{4} << 20;

    Backend& backend_ = Backend::get(BackendKind::host);
    std::unique_ptr<void, Freer> arena_{std::aligned_alloc(page_bytes, arena_bytes)};
    HeapArena heap_{arena_.get(), HeapLayout::for_arena(arena_bytes, backend_.processors())};
    std::unique_ptr<void, Freer> work_{
        std::aligned_alloc(128, round_up<std::size_t>(PoolCompactor::work_bytes(backend_, heap_.layout), 128))};
    std::unique_ptr<PoolCompactor> compactor_;

    void SetUp() override {
        compactor_ = std::make_unique<PoolCompactor>(backend_, heap_, std::size_t{2} << 20, work_.get(), nullptr);
        launch_heap_setup(backend_, nullptr, heap_);
        compactor_->order_behind(nullptr);
        backend_.synchronize(nullptr);
    }
    CompactionState& state() { return *static_cast<CompactionState*>(work_.get()); }
};

TEST_F(Compactor, RefusesWorkWhileThePoolEnds) {
    compactor_->compact(nullptr, {});
    compactor_->close();
    EXPECT_EQ(compactor_->report().sequence, 1u) << "closing waits for what was launched";
    EXPECT_THROW(compactor_->compact(nullptr, {}), usage_error);
    EXPECT_THROW(compactor_->survey(nullptr), usage_error);
    EXPECT_THROW(compactor_->between_launches(nullptr), usage_error);
    EXPECT_THROW((void)compactor_->hold(nullptr), usage_error);
}

TEST_F(Compactor, DoesNothingWhereTheWorkAreaIsTaken) {
    solo_env env;
    const auto heap = Heap<solo_env>::over(heap_.base, heap_.layout);
    Status status = Status::ok;
    void* const block = heap.allocate(env, 1, 1000, 16, status);
    ASSERT_NE(block, nullptr);
    ASSERT_EQ(heap.deallocate(env, 1, block), Status::ok); // its slab is empty, in the cursor
    const std::uint32_t free_pages = env.load(heap.control(ControlCell::free_pages), Order::relaxed);
    ASSERT_LT(free_pages, heap_.layout.page_count);
    env.store(state().owner, 12345u, Order::relaxed); // as a graph's launch would
    for (const Compaction::Form form : {Compaction::Form::online, Compaction::Form::quiet})
        compactor_->compact(nullptr, {form, whole_heap});
    backend_.synchronize(nullptr);
    EXPECT_EQ(env.load(state().owner, Order::relaxed), 12345u);
    EXPECT_EQ(compactor_->report().sequence, 0u);
    EXPECT_EQ(env.load(heap.control(ControlCell::free_pages), Order::relaxed), free_pages);
    env.store(state().owner, 0u, Order::relaxed);
    EXPECT_EQ(compactor_->survey(nullptr).empty_slabs, 1u);
    compactor_->compact(nullptr, {});
    backend_.synchronize(nullptr);
    EXPECT_EQ(compactor_->report().free_page_bytes, heap_.layout.payload_bytes());
    EXPECT_EQ(compactor_->report().retired_slabs, 1u);
}

} // namespace
