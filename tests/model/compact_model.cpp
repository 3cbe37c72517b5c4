// SPDX-License-Identifier: MIT
// Lists put in order beside allocation, under the model checker, as written and with orders weakened.
#include "cuda_zstd/heap/compact_online.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstdint>

#include "model_heap.hpp"

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::model;

/// Three slabs of two slots, two of them on the list; the others take blocks, which moves slabs off the list and to the
/// cursor, free them and old ones, which empties slabs, and want a page, for which an empty one must go. One thread
/// puts the list in order meanwhile.
template <rl::thread_id_t Threads, class Mutation>
struct OrderBesideTaking : rl::test_suite<OrderBesideTaking<Threads, Mutation>, Threads> {
    using Env = relacy_env<Threads, 1, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    ModelHeap<Env, 3> model;
    typename ListOrder<Env>::Segment segment;
    void* old[5] = {};

    void before() {
        Env env(warps[0], 0);
        model.prepare(env);
        for (void*& block : old) {
            Status status = Status::ok;
            block = model.take(env, 1, max_slot_bytes, status);
            RL_ASSERT(block != nullptr);
        }
        model.give(env, 1, old[0]);
        model.give(env, 1, old[2]);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0);
        if (index == 0) {
            std::uint32_t retired = 0;
            const ListOrder<Env> order(model.supply(), size_class_of(max_slot_bytes), 0);
            for (int turn = 0; turn < 2; ++turn)
                order_list(env, order, segment, whole_heap, retired, Effort::everywhere);
            return;
        }
        Status status = Status::ok;
        void* const first = model.take(env, 1, max_slot_bytes, status);
        // Fewer blocks live than there are slots, unless all threads have taken theirs.
        RL_ASSERT(first != nullptr || status == Status::contended);
        model.give(env, 1, old[index == 1 ? 1 : 3]);
        if (first != nullptr) model.give(env, 1, first);
        void* const run = model.take(env, 1, page_bytes, status);
        if (run != nullptr) model.give(env, 1, run);
    }
    void after() {
        Env env(warps[0], 0);
        if (Threads == 2) model.give(env, 1, old[3]);
        model.give(env, 1, old[4]);
        model.expect_all_free(env);
    }
};

/// A push or a pop releases nothing: neither links nor what was done to a slab.
using RelaxedPush = Relaxed<Access::compare_exchange, Order::release>;
/// Nothing that reads acquires.
struct NoAcquire : AsWritten {
    static constexpr Order order_of(Access, Order asked, ModelSite) {
        if (asked == Order::acquire) return Order::relaxed;
        return asked == Order::acq_rel ? Order::release : asked;
    }
};

TEST(CompactModel, OneTakesAtRandom) { expect_right<OrderBesideTaking<2, AsWritten>>(random_search(60'000)); }
TEST(CompactModel, OneTakesContextBound) { expect_right<OrderBesideTaking<2, AsWritten>>(context_bound(1)); }
TEST(CompactModel, TwoTakeAtRandom) { expect_right<OrderBesideTaking<3, AsWritten>>(random_search(40'000)); }
TEST(CompactModel, ReportsARelaxedPush) { expect_reported<OrderBesideTaking<3, RelaxedPush>>(random_search(200'000)); }
TEST(CompactModel, ReportsReadsThatDoNotAcquire) {
    expect_reported<OrderBesideTaking<3, NoAcquire>>(random_search(200'000));
}

} // namespace
