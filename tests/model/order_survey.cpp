// SPDX-License-Identifier: MIT
// Which memory orders of the heap are load-bearing: weakens each of them in turn, at one place of the source, and says
// whether the suites report it. An order that nothing reports is stronger than it need be, or lacks a test.
// Run by hand, for some minutes: order_survey [executions for each suite [FILE:LINE ...]]
// With places it makes those relaxed all together, since two orders can each be idle because of the other, and exits
// with 1 if that is reported.
#include "cuda_zstd/heap/heap.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <tuple>

#include "cursor_suites.hpp"
#include "heap_suites.hpp"
#include "page_map_suites.hpp"
#include "slab_list_suites.hpp"

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::model;

/// The orders met at one place: line, kind of access, order asked for.
struct Place {
    const char* file;
    int line;
    Access access;
    Order order;
};

/// Weakens one place; or notes all places. Plain arrays: a simulation must not allocate here.
struct Weakened : AsWritten {
    static inline Place places[256];
    static inline unsigned place_count = 0;
    static inline const Place* target = nullptr;
    static inline Order weaker = Order::relaxed;
    static inline const char* const* together = nullptr; ///< FILE:LINE of places that are relaxed together
    static inline int together_count = 0;

    static bool is_at(ModelSite site, const char* place) {
        const char* const colon = std::strrchr(place, ':');
        if (colon == nullptr || std::atoi(colon + 1) != site.line) return false;
        const std::size_t name_bytes = static_cast<std::size_t>(colon - place);
        const std::size_t file_bytes = std::strlen(site.file);
        return file_bytes > name_bytes && std::strncmp(site.file + file_bytes - name_bytes, place, name_bytes) == 0;
    }

    static Order order_of(Access access, Order asked, ModelSite site) {
        const auto same = [&](const Place& place) {
            return place.line == site.line && place.access == access && place.order == asked &&
                   std::strcmp(place.file, site.file) == 0;
        };
        for (int i = 0; i < together_count; ++i)
            if (is_at(site, together[i])) return Order::relaxed;
        if (target != nullptr) return same(*target) ? weaker : asked;
        note({site.file, site.line, access, asked});
        return asked;
    }
    static bool sync_orders(ModelSite site) { return order_of(Access::sync, Order::acq_rel, site) == Order::acq_rel; }

private:
    static void note(const Place& met) {
        // Only the heap's own accesses: a test's set-up is not what is surveyed.
        if (met.order == Order::relaxed || std::strstr(met.file, "/heap/") == nullptr) return;
        for (unsigned i = 0; i < place_count; ++i)
            if (places[i].line == met.line && places[i].access == met.access && places[i].order == met.order &&
                std::strcmp(places[i].file, met.file) == 0)
                return;
        if (place_count < 256) places[place_count++] = met;
    }
};

const char* name_of(Access access) {
    static constexpr const char* names[] = {
        "load", "store", "exchange", "compare_exchange", "fetch_add", "fetch_sub", "fetch_or", "fetch_and", "sync"};
    return names[static_cast<unsigned>(access)];
}
const char* name_of(Order order) {
    static constexpr const char* names[] = {"relaxed", "acquire", "release", "acq_rel"};
    return names[static_cast<unsigned>(order)];
}

/// The first suite that reports anything, as text; empty if none does.
std::string first_report(unsigned executions) {
    std::string report;
    const auto run = [&](const char* name, const Finding& finding) {
        if (!report.empty() || finding.result == rl::test_result_success) return;
        report = std::string(name) + ": " + rl::test_result_str(finding.result) + " at execution " +
                 std::to_string(finding.executions);
    };
    const auto params = [&] { return random_search(executions); };
    run("list, take and give", check<TakeAndGive<2, Weakened>>(params()));
    if (report.empty()) run("list, pop against pop, pop, push", check<PopAgainstPopPopPush<Weakened>>(params()));
    if (report.empty()) run("pages, short runs", check<ShortRuns<2, Weakened>>(params()));
    if (report.empty()) run("pages, across words", check<RunAcrossWords<Weakened>>(params()));
    if (report.empty()) run("credits, hand to hand", check<HandToHand<2, Weakened>>(params()));
    if (report.empty()) run("credits, freed into", check<FreedInto<Weakened>>(params()));
    if (report.empty()) run("credits, the last slot", check<LastSlot<2, Weakened>>(params()));
    if (report.empty()) run("credits, the last frees", check<LastFrees<Weakened>>(params()));
    if (report.empty()) run("credits, a stale number", check<StaleNumber<Freed::one, Weakened>>(params()));
    if (report.empty())
        run("credits, a stale number of a whole slab", check<StaleNumber<Freed::all, Weakened>>(params()));
    if (report.empty()) run("credits, a page passes on", check<PagePassesOn<Weakened>>(params()));
    if (report.empty()) run("credits, reborn", check<Reborn<Weakened>>(params()));
    if (report.empty()) run("credits, reborn in reach", check<RebornInReach<Weakened>>(params()));
    if (report.empty()) run("credits, emptied while held", check<EmptiedWhileHeld<Weakened>>(params()));
    if (report.empty()) run("credits, retired by a return", check<RetiredByAReturn<Weakened>>(params()));
    if (report.empty()) run("cursor, drained", check<DrainedCursor<Weakened>>(params()));
    if (report.empty()) run("cursor, set aside", check<SetAsideOrReclaim<false, Weakened>>(params()));
    if (report.empty()) run("cursor, taken up again", check<SetAsideOrReclaim<true, Weakened>>(params()));
    if (report.empty()) run("cursor, a slab brought or none", check<BringOrReclaim<true, Weakened>>(params()));
    if (report.empty()) run("cursor, move on", check<MoveOn<Weakened>>(params()));
    if (report.empty()) run("cursor, two move on", check<MoveOn<Weakened, true>>(params()));
    if (report.empty()) run("cursor, left behind", check<LeftBehind<Freed::one, Weakened>>(params()));
    if (report.empty()) run("cursor, left behind whole", check<LeftBehind<Freed::all, Weakened>>(params()));
    if (report.empty()) run("cursor, two prepare", check<TwoPrepare<Weakened>>(params()));
    if (report.empty()) run("cursor, prepare or drain", check<PrepareOrDrain<Weakened>>(params()));
    if (report.empty()) run("cursor, prepare or bring", check<PrepareOrBring<Weakened>>(params()));
    if (report.empty()) run("warp of two", check<WarpOfTwo<Weakened>>(params()));
    if (report.empty()) run("two threads, one class", check<OneClass<2, 1, Weakened>>(params()));
    if (report.empty()) run("three threads, one class", check<OneClass<3, 1, Weakened>>(params()));
    if (report.empty()) run("two threads, three sizes", check<ThreeSizes<2, Weakened>>(params()));
    if (report.empty()) run("three threads, three sizes", check<ThreeSizes<3, Weakened>>(params()));
    if (report.empty()) run("freed by another", check<FreedByAnother<Weakened>>(params()));
    if (report.empty()) run("two threads, listed slabs", check<ListedSlabs<2, Weakened>>(params()));
    if (report.empty()) run("three threads, listed slabs", check<ListedSlabs<3, Weakened>>(params()));
    if (report.empty()) run("run, then slab", check<RunThenSlab<Weakened>>(params()));
    if (report.empty()) run("two processors, taken out of sight", check<TakenOutOfSight<Weakened>>(params()));
    if (report.empty()) run("two processors, one class", check<OneClass<2, 1, Weakened, 2>>(params()));
    if (report.empty()) run("two processors, three sizes", check<ThreeSizes<3, Weakened, 2>>(params()));
    if (report.empty()) run("two processors, listed slabs", check<ListedSlabs<3, Weakened, 2>>(params()));
    return report;
}

} // namespace

int main(int argc, char** argv) {
    const unsigned executions = argc > 1 ? static_cast<unsigned>(std::strtoul(argv[1], nullptr, 10)) : 30'000;
    if (argc > 2) {
        Weakened::together = argv + 2;
        Weakened::together_count = argc - 2;
        const std::string report = first_report(executions);
        std::printf("%s\n", report.empty() ? "NOT REPORTED" : report.c_str());
        return report.empty() ? 0 : 1;
    }
    if (const std::string report = first_report(executions); !report.empty()) {
        std::printf("as written, the heap is reported: %s\n", report.c_str());
        return 1;
    }
    std::printf("%u places with an order\n", Weakened::place_count);
    for (unsigned i = 0; i < Weakened::place_count; ++i) {
        const Place& place = Weakened::places[i];
        Weakened::target = &place;
        for (const Order weaker : {Order::relaxed, Order::acquire, Order::release}) {
            if (weaker != Order::relaxed && (place.order != Order::acq_rel || place.access == Access::sync)) continue;
            Weakened::weaker = weaker;
            const std::string report = first_report(executions);
            const char* const slash = std::strrchr(place.file, '/');
            std::printf("%-16s %4d %-16s %s -> %s: %s\n", slash != nullptr ? slash + 1 : place.file, place.line,
                        name_of(place.access), name_of(place.order), name_of(weaker),
                        report.empty() ? "NOT REPORTED" : report.c_str());
            std::fflush(stdout);
            if (weaker == Order::relaxed && report.empty()) break;
        }
    }
    return 0;
}
