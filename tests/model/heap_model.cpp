// SPDX-License-Identifier: MIT
// The whole heap under the model checker: slabs' credits, cursors, lists, reclaiming, and a warp of two lanes.
#include "cuda_zstd/heap/heap.hpp"

#include <cstdint>
#include <cstdio>

#include "model_heap.hpp"

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::model;

/// Threads that each take and give blocks of one class of two slots a page. One page for two threads, so that slots go
/// from hand to hand; what a thread had before must be visible to the next owner.
template <rl::thread_id_t Threads, std::uint32_t page_count, class Mutation>
struct OneClass : rl::test_suite<OneClass<Threads, page_count, Mutation>, Threads> {
    using Env = relacy_env<Threads, 1, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    ModelHeap<Env, page_count> model;

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0);
        for (int round = 0; round < 2; ++round) {
            Status status = Status::ok;
            void* const block = model.take(env, 1, max_slot_bytes, status);
            RL_ASSERT((block != nullptr) == (status == Status::ok));
            // Two threads hold at most two blocks, and a page has two slots.
            RL_ASSERT(status != Status::full || Threads > 2 * page_count);
            if (block != nullptr) model.give(env, 1, block);
        }
    }
    void after() {
        Env env(warps[0], 0);
        model.expect_all_free(env);
    }
};

/// One page that two classes and a run want in turn: slabs are retired and born again while others look at them.
template <rl::thread_id_t Threads, class Mutation>
struct ThreeSizes : rl::test_suite<ThreeSizes<Threads, Mutation>, Threads> {
    using Env = relacy_env<Threads, 1, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    ModelHeap<Env, 1> model;

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0);
        static constexpr std::size_t sizes[] = {max_slot_bytes, 16384, page_bytes};
        for (unsigned round = 0; round < 2; ++round) {
            Status status = Status::ok;
            void* const block = model.take(env, 1, sizes[(index + round) % 3], status);
            if (block != nullptr) model.give(env, 1, block);
        }
    }
    void after() {
        Env env(warps[0], 0);
        model.expect_all_free(env);
        Status status = Status::ok;
        RL_ASSERT(model.take(env, 1, page_bytes, status) != nullptr);
    }
};

/// A block that another thread frees, while the first takes and frees its own of the same slab.
template <class Mutation>
struct FreedByAnother : rl::test_suite<FreedByAnother<Mutation>, 2> {
    using Env = relacy_env<2, 1, Mutation>;
    ModelWarp<2, 1> warps[2];
    ModelHeap<Env, 1> model;
    void* blocks[2] = {};

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
        for (void*& block : blocks) {
            Status status = Status::ok;
            block = model.take(env, 1, max_slot_bytes, status);
        }
    }
    void thread(unsigned index) {
        Env env(warps[index], 0);
        model.give(env, 1, blocks[index]);
        Status status = Status::ok;
        void* const block = model.take(env, 1, index == 0 ? max_slot_bytes : page_bytes, status);
        if (block != nullptr) model.give(env, 1, block);
    }
    void after() {
        Env env(warps[0], 0);
        model.expect_all_free(env);
    }
};

/// A warp of two lanes that take, write and give together, beside a warp of which one lane does the same alone.
template <class Mutation>
struct WarpOfTwo : rl::test_suite<WarpOfTwo<Mutation>, 3> {
    using Env = relacy_env<3, 2, Mutation>;
    ModelWarp<3, 2> warps[2];
    ModelHeap<Env, 2> model;

    void before() {
        Env env(warps[1], 0);
        model.prepare(env);
    }
    void thread(unsigned index) {
        Env env(warps[index / 2], index % 2);
        const LaneMask alone = LaneMask{1} << (index % 2);
        for (unsigned round = 0; round < 2; ++round) {
            Status status = Status::ok;
            const LaneMask taking = index < 2 ? env.converged() : alone;
            void* const block = model.take(env, taking, max_slot_bytes, status);
            const LaneMask giving = index < 2 ? env.converged() : alone;
            model.give(env, giving, block);
        }
    }
    void after() {
        Env env(warps[1], 0);
        model.expect_all_free(env);
    }
};

/// `sync` makes the lanes meet, and orders nothing.
struct SyncWithoutOrder : AsWritten {
    static constexpr bool sync_orders = false;
};
/// Clearing a slot's bit does not release.
using RelaxedClear = Relaxed<Access::fetch_and, Order::release>;
/// Taking a slot's bit does not acquire.
struct RelaxedTake : AsWritten {
    static constexpr Order order_of(Access access, Order asked) {
        if (access == Access::fetch_or && asked == Order::acquire) return Order::relaxed;
        return access == Access::fetch_sub && asked == Order::acquire ? Order::relaxed : asked;
    }
};
/// Nothing that reads acquires.
struct NoAcquire : AsWritten {
    static constexpr Order order_of(Access, Order asked) {
        if (asked == Order::acquire) return Order::relaxed;
        return asked == Order::acq_rel ? Order::release : asked;
    }
};

TEST(HeapModel, TwoThreadsOneClassContextBound) { expect_right<OneClass<2, 1, AsWritten>>(context_bound(1)); }
TEST(HeapModel, TwoThreadsOneClassAtRandom) { expect_right<OneClass<2, 1, AsWritten>>(random_search(50'000)); }
TEST(HeapModel, ThreeThreadsOneClassAtRandom) { expect_right<OneClass<3, 1, AsWritten>>(random_search(50'000)); }
TEST(HeapModel, TwoThreadsThreeSizesAtRandom) { expect_right<ThreeSizes<2, AsWritten>>(random_search(50'000)); }
TEST(HeapModel, ThreeThreadsThreeSizesAtRandom) { expect_right<ThreeSizes<3, AsWritten>>(random_search(50'000)); }
TEST(HeapModel, FreedByAnotherAtRandom) { expect_right<FreedByAnother<AsWritten>>(random_search(50'000)); }
TEST(HeapModel, WarpOfTwoAtRandom) { expect_right<WarpOfTwo<AsWritten>>(random_search(50'000)); }

TEST(HeapModel, ReportsSyncWithoutOrder) { expect_reported<WarpOfTwo<SyncWithoutOrder>>(random_search(200'000)); }
TEST(HeapModel, ReportsARelaxedClear) { expect_reported<OneClass<2, 1, RelaxedClear>>(random_search(200'000)); }
TEST(HeapModel, ReportsARelaxedTake) { expect_reported<OneClass<2, 1, RelaxedTake>>(random_search(200'000)); }
TEST(HeapModel, ReportsReadsThatDoNotAcquire) { expect_reported<ThreeSizes<2, NoAcquire>>(random_search(200'000)); }

} // namespace
