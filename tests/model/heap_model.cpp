// SPDX-License-Identifier: MIT
// The whole heap under the model checker, as written and with orders weakened.
#include "cuda_zstd/heap/heap.hpp"

#include <cstdio>

#include "heap_suites.hpp"

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::model;

/// `sync` makes the lanes meet, and orders nothing.
struct SyncWithoutOrder : AsWritten {
    static constexpr bool sync_orders(ModelSite) { return false; }
};
/// Clearing a slot's bit does not release.
using RelaxedClear = Relaxed<Access::fetch_and, Order::release>;
/// Taking a slot's bit does not acquire.
struct RelaxedTake : AsWritten {
    static constexpr Order order_of(Access access, Order asked, ModelSite) {
        if (access == Access::fetch_or && asked == Order::acquire) return Order::relaxed;
        return access == Access::fetch_sub && asked == Order::acquire ? Order::relaxed : asked;
    }
};
/// A reservation acquires neither from the cursor nor from the slab's word.
struct RelaxedReservation : AsWritten {
    static constexpr Order order_of(Access access, Order asked, ModelSite) {
        return (access == Access::fetch_sub || access == Access::load) && asked == Order::acquire ? Order::relaxed
                                                                                                  : asked;
    }
};
/// Neither making a cursor busy nor storing what comes next releases.
struct RelaxedCursor : AsWritten {
    static constexpr Order order_of(Access access, Order asked, ModelSite) {
        if (access == Access::compare_exchange && asked == Order::acq_rel) return Order::acquire;
        return access == Access::store ? Order::relaxed : asked;
    }
};
/// Nothing that reads acquires.
struct NoAcquire : AsWritten {
    static constexpr Order order_of(Access, Order asked, ModelSite) {
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
TEST(HeapModel, TwoThreadsListedSlabsAtRandom) { expect_right<ListedSlabs<2, AsWritten>>(random_search(50'000)); }
TEST(HeapModel, ThreeThreadsListedSlabsAtRandom) { expect_right<ListedSlabs<3, AsWritten>>(random_search(50'000)); }
TEST(HeapModel, RunThenSlabAtRandom) { expect_right<RunThenSlab<AsWritten>>(random_search(100'000)); }
TEST(HeapModel, RunThenSlabContextBound) { expect_right<RunThenSlab<AsWritten>>(context_bound(2)); }
TEST(HeapModel, TwoProcessorsThreeSizesAtRandom) { expect_right<ThreeSizes<3, AsWritten, 2>>(random_search(30'000)); }
TEST(HeapModel, TwoProcessorsListedSlabsAtRandom) { expect_right<ListedSlabs<3, AsWritten, 2>>(random_search(30'000)); }
TEST(HeapModel, TwoProcessorsOneClassAtRandom) { expect_right<OneClass<2, 1, AsWritten, 2>>(random_search(50'000)); }
TEST(HeapModel, TakenOutOfSightAtRandom) { expect_right<TakenOutOfSight<AsWritten>>(random_search(50'000)); }
TEST(HeapModel, WarpOfTwoAtRandom) { expect_right<WarpOfTwo<AsWritten>>(random_search(50'000)); }
TEST(HeapModel, TwoWordsAtRandom) { expect_right<TwoWords<AsWritten>>(random_search(50'000)); }

TEST(HeapModel, ReportsSyncWithoutOrder) { expect_reported<WarpOfTwo<SyncWithoutOrder>>(random_search(200'000)); }
TEST(HeapModel, ReportsSyncOfTwoWordsWithoutOrder) {
    expect_reported<TwoWords<SyncWithoutOrder>>(random_search(200'000));
}
TEST(HeapModel, ReportsARelaxedClear) { expect_reported<OneClass<2, 1, RelaxedClear>>(random_search(200'000)); }
TEST(HeapModel, ReportsARelaxedTake) { expect_reported<OneClass<2, 1, RelaxedTake>>(random_search(200'000)); }
TEST(HeapModel, ReportsARelaxedReservation) {
    expect_reported<RunThenSlab<RelaxedReservation>>(random_search(200'000));
}
TEST(HeapModel, ReportsARelaxedCursor) { expect_reported<TakenOutOfSight<RelaxedCursor>>(random_search(200'000)); }
TEST(HeapModel, ReportsReadsThatDoNotAcquire) { expect_reported<ThreeSizes<2, NoAcquire>>(random_search(200'000)); }

} // namespace
