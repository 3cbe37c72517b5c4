// SPDX-License-Identifier: MIT
// The credits and the cursor under the model checker, in every execution of two threads, as written and with faults.
#include <cstdio>

#include "cursor_suites.hpp"

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::model;

/// Clearing a slot's bit does not release.
using RelaxedClear = Relaxed<Access::fetch_and, Order::release>;
/// Neither reserving a slot nor taking its bit acquires.
struct RelaxedTake : AsWritten {
    static constexpr Order order_of(Access, Order asked, ModelSite) {
        return asked == Order::acquire ? Order::relaxed : asked;
    }
};
/// Whoever retires a slab does not acquire what its blocks' owners released.
using RelaxedExchange = Relaxed<Access::compare_exchange, Order::acq_rel>;
/// Compares all but the credits of a slab's word, so that it is listed, unlisted or retired without looking again.
struct IgnoredCredits : AsWritten {
    static constexpr std::uint64_t compared_bits = SlabWord::low_mask;
};
/// Exchanges the word of a slab or a cursor without comparing.
struct ComparesNothing : AsWritten {
    static constexpr std::uint64_t compared_bits = 0;
};

TEST(CreditModel, HandToHand) { expect_right<HandToHand<2, AsWritten>>(exhaustive()); }
TEST(CreditModel, FreedInto) { expect_right<FreedInto<AsWritten>>(exhaustive()); }
TEST(CreditModel, LastSlot) { expect_right<LastSlot<2, AsWritten>>(exhaustive()); }
TEST(CreditModel, LastFrees) { expect_right<LastFrees<AsWritten>>(exhaustive()); }
TEST(CreditModel, StaleNumberOne) { expect_right<StaleNumber<Freed::one, AsWritten>>(exhaustive()); }
TEST(CreditModel, StaleNumberAll) { expect_right<StaleNumber<Freed::all, AsWritten>>(exhaustive()); }
TEST(CreditModel, Reborn) { expect_right<Reborn<AsWritten>>(exhaustive()); }
TEST(CreditModel, RebornInReach) { expect_right<RebornInReach<AsWritten>>(exhaustive()); }
TEST(CreditModel, EmptiedWhileHeld) { expect_right<EmptiedWhileHeld<AsWritten>>(exhaustive()); }
TEST(CreditModel, RetiredByAReturn) { expect_right<RetiredByAReturn<AsWritten>>(exhaustive()); }
TEST(CreditModel, DrainedCursor) { expect_right<DrainedCursor<AsWritten>>(exhaustive()); }
TEST(CreditModel, SetAsideOrReclaim) { expect_right<SetAsideOrReclaim<false, AsWritten>>(exhaustive()); }
TEST(CreditModel, MoveOn) { expect_right<MoveOn<AsWritten>>(exhaustive()); }
TEST(CreditModel, MoveOnBothFirst) { expect_right<MoveOn<AsWritten, true>>(exhaustive()); }
TEST(CreditModel, LeftBehindOne) { expect_right<LeftBehind<Freed::one, AsWritten>>(exhaustive()); }
TEST(CreditModel, LeftBehindAll) { expect_right<LeftBehind<Freed::all, AsWritten>>(exhaustive()); }
TEST(CreditModel, TwoPrepare) { expect_right<TwoPrepare<AsWritten>>(exhaustive()); }
// These have too many steps for a full search.
TEST(CreditModel, PagePassesOn) { expect_right<PagePassesOn<AsWritten>>(context_bound(4)); }
TEST(CreditModel, PrepareOrDrain) { expect_right<PrepareOrDrain<AsWritten>>(context_bound(5)); }
TEST(CreditModel, BringOrReclaim) { expect_right<BringOrReclaim<false, AsWritten>>(context_bound(4)); }
TEST(CreditModel, BringNoneOrReclaim) { expect_right<BringOrReclaim<true, AsWritten>>(context_bound(4)); }
TEST(CreditModel, TakenUpOrReclaim) { expect_right<SetAsideOrReclaim<true, AsWritten>>(context_bound(4)); }
TEST(CreditModel, PrepareOrBring) { expect_right<PrepareOrBring<AsWritten>>(context_bound(4)); }
TEST(CreditModel, ThreeHandToHand) { expect_right<HandToHand<3, AsWritten>>(context_bound(4)); }
TEST(CreditModel, ThreeLastSlot) { expect_right<LastSlot<3, AsWritten>>(exhaustive()); }

TEST(CreditModel, ReportsARelaxedClear) { expect_reported<HandToHand<2, RelaxedClear>>(exhaustive()); }
TEST(CreditModel, ReportsARelaxedTake) { expect_reported<HandToHand<2, RelaxedTake>>(exhaustive()); }
TEST(CreditModel, ReportsARelaxedExchange) { expect_reported<RetiredByAReturn<RelaxedExchange>>(exhaustive()); }
TEST(CreditModel, ReportsIgnoredCredits) {
    expect_reported<LastFrees<IgnoredCredits>>(exhaustive());
    expect_reported<StaleNumber<Freed::all, IgnoredCredits>>(exhaustive());
    expect_reported<LeftBehind<Freed::one, IgnoredCredits>>(exhaustive());
}
TEST(CreditModel, ReportsACursorThatIsNotCompared) {
    expect_reported<MoveOn<ComparesNothing, true>>(exhaustive());
    expect_reported<TwoPrepare<ComparesNothing>>(exhaustive());
}

} // namespace
