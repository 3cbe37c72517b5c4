// SPDX-License-Identifier: MIT
// The map of free pages under the model checker, as written and with orders weakened.
#include <cstdio>

#include "page_map_suites.hpp"

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::model;

struct RelaxedRelease : AsWritten { // the bits of a release
    static constexpr Order order_of(Access access, Order asked, ModelSite) {
        return access == Access::fetch_or || access == Access::fetch_add ? Order::relaxed : asked;
    }
};
struct RelaxedClaim : AsWritten { // the bits of a claim
    static constexpr Order order_of(Access access, Order asked, ModelSite) {
        return (access == Access::compare_exchange || access == Access::fetch_and) && asked == Order::acq_rel
                   ? Order::release
                   : asked;
    }
};

TEST(PageMapModel, PlaceAgainstPageInEveryExecution) { expect_right<PlaceAgainstPage<AsWritten>>(exhaustive()); }
TEST(PageMapModel, TwoThreadsContextBound) { expect_right<ShortRuns<2, AsWritten>>(context_bound(4)); }
TEST(PageMapModel, TwoThreadsAtRandom) { expect_right<ShortRuns<2, AsWritten>>(random_search(300'000)); }
TEST(PageMapModel, ThreeThreadsContextBound) { expect_right<ShortRuns<3, AsWritten>>(context_bound(2)); }
TEST(PageMapModel, ThreeThreadsAtRandom) { expect_right<ShortRuns<3, AsWritten>>(random_search(300'000)); }
TEST(PageMapModel, RunAcrossWordsContextBound) { expect_right<RunAcrossWords<AsWritten>>(context_bound(3)); }
TEST(PageMapModel, RunAcrossWordsAtRandom) { expect_right<RunAcrossWords<AsWritten>>(random_search(1'000'000)); }

TEST(PageMapModel, ReportsARelaxedReleaseOfAPlace) { expect_reported<PlaceAgainstPage<RelaxedRelease>>(exhaustive()); }
TEST(PageMapModel, ReportsARelaxedClaimOfAPlace) { expect_reported<PlaceAgainstPage<RelaxedClaim>>(exhaustive()); }
TEST(PageMapModel, ReportsARelaxedRelease) { expect_reported<ShortRuns<2, RelaxedRelease>>(exhaustive()); }
TEST(PageMapModel, ReportsARelaxedClaim) { expect_reported<ShortRuns<2, RelaxedClaim>>(exhaustive()); }

} // namespace
