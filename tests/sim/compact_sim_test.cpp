// SPDX-License-Identifier: MIT
// Compaction beside allocation in the simulator: one lane orders lists, drains cursors and surveys, again and again,
// while the others allocate and free. Random schedules; contents by a ledger, the heap by an audit at rest.
#include "heap_scenario.hpp"

#include "cuda_zstd/heap/chunks.hpp"
#include "cuda_zstd/heap/compact_online.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

/// What a compaction must not do, as an option of the one that is tested: so that each test can be seen to fail.
enum class Mistake { none, takes_blindly, tells_nobody, lets_go_of_the_last, is_no_move };

struct Outcome {
    std::uint64_t seed = 0; ///< of the first schedule that failed; 0: none
    std::string message;
    std::uint64_t ordered = 0; ///< slabs that were put in order, in all schedules
    std::uint64_t retired = 0;
};

/// One pass over all lists.
template <class Env>
void compact(Env& env, const Heap<Env>& heap, Mistake mistake, Effort effort, Outcome& outcome) {
    typename ListOrder<Env>::Segment segment;
    const unsigned stations = heap.supply().stations.count;
    for (unsigned size_class = 0; size_class < size_class_count; ++size_class) {
        if (!heap.supply().has_listed(env, size_class)) continue;
        for (unsigned station = 0; station < stations; ++station) {
            const ListOrder<Env> order(heap.supply(), size_class, station);
            if (mistake == Mistake::none) {
                std::uint32_t retired = 0;
                outcome.ordered += order_list(env, order, segment, whole_heap, retired, effort);
                outcome.retired += retired;
                continue;
            }
            order.walk(env, segment, whole_heap);
            if (mistake == Mistake::takes_blindly)
                segment.head = env.load(*heap.supply().list_of(size_class, station).head, Order::acquire);
            if (segment.count == 0 || !order.take(env, segment)) continue;
            if (mistake == Mistake::is_no_move) order.end(env);
            std::uint32_t left = segment.count - (mistake == Mistake::lets_go_of_the_last ? 1 : 0);
            for (std::uint32_t index = 0; index < left; ++index)
                order.link(env, segment, index, left);
            order.put_back(env, segment, left);
            if (mistake != Mistake::tells_nobody)
                for (std::uint32_t index = 0; index < left; ++index)
                    order.publish(env, segment, index);
            if (mistake != Mistake::is_no_move) order.end(env);
        }
    }
}

/// Warp 0 compacts as long as the others work; those take blocks of a few sizes, hold some and free them.
template <unsigned Lanes>
Outcome search(const Scenario& scenario, unsigned seeds, Mistake mistake = Mistake::none) {
    using Env = sim_env<Lanes>;
    Outcome outcome;
    TinyArena arena;
    sim::Shape shape;
    shape.warp_count = scenario.warps;
    shape.warp_lanes = Lanes;
    shape.processor_count = scenario.processors;
    shape.step_limit = scenario.step_limit;
    sim::Simulation simulation(shape);
    Pressure pressure; // every block is in one page at most
    for (std::uint64_t seed = 1; seed <= seeds && outcome.seed == 0; ++seed) {
        const HeapLayout layout = arena.reset(scenario);
        const Heap<Env> heap = Heap<Env>::over(arena.base(), layout);
        Ledger ledger(heap.pages_base(), layout.payload_bytes());
        pressure.reset(std::size_t{scenario.warps} * Lanes);
        unsigned working = (scenario.warps - 1) * Lanes;
        // Not of the lanes: a schedule that fails stops them where they are, and nothing on their stacks is destroyed.
        std::vector<std::vector<void*>> held_by(std::size_t{scenario.warps} * Lanes);
        sim::ScheduleSpec spec;
        spec.seed = seed;
        spec.policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
        spec.expected_step_count = 2000;
        sim::Outcome run = simulation.run(spec, [&](unsigned thread) {
            Env env(simulation, thread);
            if (thread == 0)
                for (unsigned turn = 0; turn < 4 || working != 0; ++turn) {
                    // As after a trim: in every third schedule the pages from the second or third on are to drain.
                    if (seed % 3 == 0 && turn % 2 == 0)
                        HeapChunks<Env>(heap, 32).set_extent(env, layout.page_count, 1 + turn % 4 / 2);
                    compact(env, heap, mistake, turn % 2 == 0 ? Effort::everywhere : Effort::where_needed, outcome);
                }
            if (thread < Lanes) return;
            sim::Random own(seed * 0x9e37 + thread);
            std::vector<void*>& held = held_by[thread];
            for (unsigned round = 0; round < scenario.rounds; ++round) {
                if (own.below(100) < 60) {
                    static constexpr std::size_t sizes[] = {max_slot_bytes, max_slot_bytes / 2, 24 << 10, 60 << 10};
                    const std::size_t bytes = sizes[own.below(own.below(2) == 0 ? 1 : 4)];
                    Status status = Status::ok;
                    pressure.begin_allocation(thread, 1);
                    void* const block = heap.allocate(env, env.converged(), bytes, 16, status);
                    const unsigned peak_pages = pressure.end_allocation(thread, 1, block);
                    if (block == nullptr) {
                        if (status == Status::full && scenario.slab_log2_pages == 0 && peak_pages <= scenario.pages)
                            simulation.fail("full, although no more than " + std::to_string(peak_pages) +
                                            " pages can have been in use");
                        continue;
                    }
                    std::string complaint = ledger.take(block, bytes, 16);
                    if (!complaint.empty()) simulation.fail(std::move(complaint));
                    held.push_back(block);
                } else if (!held.empty()) {
                    const std::size_t index = own.below(static_cast<unsigned>(held.size()));
                    void* const block = held[index];
                    held[index] = held.back();
                    held.pop_back();
                    ledger.give_back(block);
                    const Status status = heap.deallocate(env, env.converged(), block);
                    pressure.end_free(1);
                    if (status != Status::ok) simulation.fail("a good free was refused");
                }
            }
            --working; // some blocks stay live: check_rest frees them
        });
        std::string complaint = run ? std::string() : run.message;
        if (complaint.empty()) {
            sim::Random at_rest(seed ^ 0xe57);
            complaint = check_rest(arena.base(), layout, ledger, at_rest);
        }
        if (complaint.empty()) continue;
        outcome.seed = seed;
        outcome.message = complaint;
    }
    return outcome;
}

Scenario small_scenario() {
    Scenario scenario;
    scenario.warps = 3;
    scenario.pages = 5;
    scenario.rounds = 14;
    scenario.processors = 2;
    scenario.step_limit = 300'000;
    return scenario;
}

TEST(CompactSim, BesideLanesThatAllocateAndFree) {
    const Outcome outcome = search<2>(small_scenario(), 20'000);
    EXPECT_EQ(outcome.seed, 0u) << outcome.message;
    EXPECT_GT(outcome.ordered, 1000u);
    EXPECT_GT(outcome.retired, 100u);
}

TEST(CompactSim, BesideSlabsOfSeveralPages) {
    Scenario scenario = small_scenario();
    scenario.pages = 9;
    scenario.slab_log2_pages = 2;
    const Outcome outcome = search<2>(scenario, 5'000);
    EXPECT_EQ(outcome.seed, 0u) << outcome.message;
}

TEST(CompactSim, BesideWholeWarps) {
    Scenario scenario = small_scenario();
    scenario.pages = 24;
    scenario.rounds = 6;
    scenario.step_limit = 3'000'000;
    const Outcome outcome = search<32>(scenario, 150);
    EXPECT_EQ(outcome.seed, 0u) << outcome.message;
}

TEST(CompactSim, FindsATakeOfAListThatHasChanged) {
    EXPECT_NE(search<2>(small_scenario(), 20'000, Mistake::takes_blindly).seed, 0u);
}
TEST(CompactSim, FindsAHeapThatSeemsFullMeanwhile) {
    Scenario scenario = small_scenario();
    scenario.pages = 2; // a request that is refused must find the list empty twice
    scenario.processors = 3;
    EXPECT_NE(search<2>(scenario, 100'000, Mistake::is_no_move).seed, 0u);
}
TEST(CompactSim, FindsASlabThatIsLeftBehind) {
    EXPECT_NE(search<2>(small_scenario(), 2'000, Mistake::lets_go_of_the_last).seed, 0u);
}
TEST(CompactSim, FindsAnEmptySlabThatNobodyWasToldOf) {
    EXPECT_NE(search<2>(small_scenario(), 100'000, Mistake::tells_nobody).seed, 0u);
}

} // namespace
