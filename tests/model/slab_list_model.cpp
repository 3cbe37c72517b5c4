// SPDX-License-Identifier: MIT
// The list of slabs under the model checker, as written and with orders weakened.
#include <cstdio>

#include "slab_list_suites.hpp"

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::model;

/// Compares only the slab, not the counter, of a list's head.
struct IgnoredCounter : AsWritten {
    static constexpr std::uint64_t compared_bits = 0xffffffffu;
};
/// Neither the first load nor the compare-and-swap of a pop acquires.
struct RelaxedPop : AsWritten {
    static constexpr Order order_of(Access, Order asked, ModelSite) {
        if (asked == Order::acq_rel) return Order::release;
        return asked == Order::acquire ? Order::relaxed : asked;
    }
};

TEST(SlabListModel, TwoThreadsInEveryExecution) { expect_right<TakeAndGive<2, AsWritten>>(exhaustive()); }
TEST(SlabListModel, ThreeThreadsContextBound) { expect_right<TakeAndGive<3, AsWritten>>(context_bound(2)); }
TEST(SlabListModel, ThreeThreadsAtRandom) { expect_right<TakeAndGive<3, AsWritten>>(random_search(200'000)); }
TEST(SlabListModel, PopAgainstPopPopPush) { expect_right<PopAgainstPopPopPush<AsWritten>>(exhaustive()); }

TEST(SlabListModel, ReportsARelaxedPush) {
    expect_reported<TakeAndGive<2, Relaxed<Access::compare_exchange, Order::release>>>(exhaustive());
}
TEST(SlabListModel, ReportsARelaxedPop) { expect_reported<TakeAndGive<2, RelaxedPop>>(exhaustive()); }
TEST(SlabListModel, ReportsAHeadWithoutCounter) {
    expect_reported<PopAgainstPopPopPush<IgnoredCounter>>(random_search(200'000));
    expect_reported<PopAgainstPopPopPush<IgnoredCounter>>(exhaustive());
}

} // namespace
