// SPDX-License-Identifier: MIT
// The magazines' hand-over under the model checker, as written and with faults.
#include <cstdio>

#include "handover_suites.hpp"

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::model;

using AsItIs = Checked<>;
/// Of a system that has no barrier for all threads: everybody takes the spin lock.
using SpinLocks = Checked<AsWritten, AsWritten, Barrier::is_missing>;

// Faults: of the flags that locks are made of, and of the records' words.
using BarrierOfNoEffect = Checked<AsWritten, AsWritten, Barrier::ineffective>;
using FlagsNotReleased = Checked<Relaxed<Access::store, Order::release>>;
using FlagsNotAcquired = Checked<Relaxed<Access::load, Order::acquire>>;
using SpinLockNotAcquired = Checked<Relaxed<Access::exchange, Order::acquire>>;
using WordsNotReleased = Checked<AsWritten, Relaxed<Access::store, Order::release>>;
/// Neither the look at a word nor its exchange acquires; one of them is enough.
struct NothingAcquired : AsWritten {
    static constexpr Order order_of(Access, Order asked, ModelSite) {
        return asked == Order::acquire ? Order::relaxed : asked;
    }
};
using WordsNotAcquired = Checked<AsWritten, NothingAcquired>;

TEST(HandoverModel, OwnerAndAnother) { expect_right<OwnerAndAnother<AsItIs>>(exhaustive()); }
TEST(HandoverModel, PassageAndAlone) { expect_right<PassageAndAlone<1, AsItIs>>(exhaustive()); }
TEST(HandoverModel, PublishedAndClaimed) { expect_right<PublishedAndClaimed<AsItIs>>(exhaustive()); }
TEST(HandoverModel, FreedTwice) { expect_right<FreedTwice<AsItIs>>(exhaustive()); }
TEST(HandoverModel, OutgrownTable) { expect_right<OutgrownTable<AsItIs>>(context_bound(5)); }
// These have too many steps for a full search.
TEST(HandoverModel, CollectedBesideHits) { expect_right<CollectedBesideHits<2, AsItIs>>(context_bound(5)); }
TEST(HandoverModel, FreedElsewhere) { expect_right<FreedElsewhere<AsItIs>>(context_bound(5)); }
TEST(HandoverModel, ThreadEnds) { expect_right<ThreadEnds<AsItIs>>(context_bound(4)); }
TEST(HandoverModel, ClosedCaches) { expect_right<ClosedCaches<AsItIs>>(context_bound(5)); }
TEST(HandoverModel, PassagesAndAlone) { expect_right<PassageAndAlone<3, AsItIs>>(context_bound(4)); }
TEST(HandoverModel, ThreeThreads) { expect_right<CollectedBesideHits<3, AsItIs>>(context_bound(3)); }

TEST(HandoverModel, OwnerAndAnotherBySpinLocks) { expect_right<OwnerAndAnother<SpinLocks>>(exhaustive()); }
TEST(HandoverModel, CollectedBesideHitsBySpinLocks) {
    expect_right<CollectedBesideHits<2, SpinLocks>>(context_bound(4));
}

TEST(HandoverModel, ReportsABarrierOfNoEffect) {
    expect_reported<OwnerAndAnother<BarrierOfNoEffect>>(exhaustive());
    expect_reported<PassageAndAlone<1, BarrierOfNoEffect>>(exhaustive());
    expect_reported<CollectedBesideHits<2, BarrierOfNoEffect>>(context_bound(4));
    expect_reported<OutgrownTable<BarrierOfNoEffect>>(context_bound(4));
}
TEST(HandoverModel, ReportsFlagsThatAreNotReleased) {
    expect_reported<OwnerAndAnother<FlagsNotReleased>>(exhaustive());
    expect_reported<PassageAndAlone<1, FlagsNotReleased>>(exhaustive());
    expect_reported<ThreadEnds<FlagsNotReleased>>(context_bound(4));
    expect_reported<ClosedCaches<FlagsNotReleased>>(context_bound(4));
}
TEST(HandoverModel, ReportsFlagsThatAreNotAcquired) {
    expect_reported<OwnerAndAnother<FlagsNotAcquired>>(exhaustive());
    expect_reported<PassageAndAlone<1, FlagsNotAcquired>>(exhaustive());
    expect_reported<ThreadEnds<FlagsNotAcquired>>(context_bound(4));
}
TEST(HandoverModel, ReportsASpinLockThatIsNotAcquired) {
    expect_reported<CollectedBesideHits<2, SpinLockNotAcquired>>(context_bound(4));
}
TEST(HandoverModel, ReportsWordsThatAreNotReleased) {
    expect_reported<PublishedAndClaimed<WordsNotReleased>>(exhaustive());
    expect_reported<FreedElsewhere<WordsNotReleased>>(context_bound(4));
}
TEST(HandoverModel, ReportsWordsThatAreNotAcquired) {
    expect_reported<PublishedAndClaimed<WordsNotAcquired>>(exhaustive());
}

} // namespace
