// SPDX-License-Identifier: MIT
// The heap's scenarios find planted faults, and replay exactly.
#include "faulty_env.hpp"
#include "free_twice.hpp"
#include "heap_scenario.hpp"
#include "page_map_check.hpp"
#include "tight_heap.hpp"

#include <gtest/gtest.h>

#include <string>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

Scenario small_scenario() {
    Scenario scenario;
    scenario.warps = 2;
    scenario.lanes = 2;
    scenario.pages = 3;
    scenario.rounds = 8;
    scenario.step_limit = 50'000;
    return scenario;
}

/// The first seed at which the fault is reported, and how; `limit` if it never is.
template <Fault fault>
std::uint64_t first_report(std::uint64_t limit, std::string& message, Scenario scenario = small_scenario()) {
    TinyArena arena;
    using Env = faulty_env<2, fault>;
    const HeapLayout layout = arena.reset(scenario);
    char* begin = arena.base();
    std::size_t bytes = 0;
    if (fault == Fault::ignored_counter) {
        begin += layout.stations_offset;
        bytes = layout.slab_words_offset - layout.stations_offset;
    } else if (fault == Fault::lost_empty_notice) {
        begin += layout.control_offset + static_cast<unsigned>(ControlCell::became_empty) * 128;
        bytes = sizeof(std::uint32_t);
    } else if (fault == Fault::lost_listing) {
        begin += layout.slab_words_offset;
        bytes = layout.page_count * sizeof(std::uint64_t);
    }
    Env::target_begin = begin;
    Env::target_end = begin + bytes;
    HeapProgram<Env> program(scenario, arena);
    for (std::uint64_t seed = 1; seed <= limit; ++seed) {
        const sim::Outcome outcome = program.run({seed, seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct});
        if (outcome) continue;
        message = outcome.message;
        return seed;
    }
    return limit + 1;
}

template <Fault fault>
void expect_found(std::uint64_t limit, Scenario scenario = small_scenario()) {
    std::string message;
    const std::uint64_t seed = first_report<fault>(limit, message, scenario);
    EXPECT_LE(seed, limit) << "the fault was not found";
    std::printf("found at seed %llu: %s\n", static_cast<unsigned long long>(seed), message.c_str());
}

TEST(SimHeap, WithoutAFaultNothingIsReported) {
    std::string message;
    EXPECT_EQ(first_report<Fault::none>(3000, message), 3001u) << message;
}

TEST(SimHeap, NobodyIsRefusedWhatIsThere) {
    TinyArena arena;
    for (const auto& [name, scenario, program] : tight_programs) {
        TightHeap<4> heap(scenario, arena);
        for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
            const sim::Outcome outcome = (heap.*program)(seed);
            ASSERT_TRUE(outcome) << name << ", seed " << seed << ": " << outcome.message;
        }
    }
}

TEST(SimHeap, FindsTornFetchOr) { expect_found<Fault::torn_fetch_or>(2000); }
TEST(SimHeap, FindsTornFetchAdd) { expect_found<Fault::torn_fetch_add>(2000); }
TEST(SimHeap, FindsTornCompareExchange) { expect_found<Fault::torn_compare_exchange>(5000); }
TEST(SimHeap, FindsTheAbaProblemOfTheLists) {
    Scenario scenario = small_scenario();
    scenario.pages = 6;
    scenario.rounds = 14;
    scenario.warps = 3;
    expect_found<Fault::ignored_counter>(100'000, scenario);
}
TEST(SimHeap, FindsALostNoticeOfAnEmptySlab) { expect_found<Fault::lost_empty_notice>(100); }
TEST(SimHeap, FindsASlabThatIsNotListed) { expect_found<Fault::lost_listing>(1000); }

TEST(SimHeap, ABlockFreedByAllLanesInOneCallIsFreedOnce) {
    TinyArena arena;
    Scenario scenario = small_scenario();
    sim::Shape shape;
    shape.step_limit = scenario.step_limit;
    sim::Simulation simulation(shape);
    for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
        const sim::Outcome outcome = free_twice<2>(simulation, scenario, arena, seed);
        ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.message;
    }
}

TEST(SimHeap, ASlabGoesHomeWhoeverFreesIntoIt) {
    TinyArena arena;
    Scenario scenario = small_scenario();
    scenario.pages = 8;
    scenario.processors = 2;
    sim::Shape shape;
    shape.warp_count = 2;
    shape.warp_lanes = 1;
    shape.processor_count = 2;
    shape.step_limit = scenario.step_limit;
    sim::Simulation simulation(shape);
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        const HeapLayout layout = arena.reset(scenario);
        const auto heap = Heap<sim_env<1>>::over(arena.base(), layout);
        void* of_a_full_slab = nullptr;
        sim::ScheduleSpec spec;
        spec.seed = seed;
        const sim::Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            sim_env<1> env(simulation, thread);
            if (thread == 1) {
                Status status;
                void* const first = heap.allocate(env, 1, max_slot_bytes, min_slot_bytes, status);
                for (int more = 0; more < 3; ++more)
                    heap.allocate(env, 1, max_slot_bytes, min_slot_bytes, status);
                of_a_full_slab = first;
            } else {
                while (of_a_full_slab == nullptr)
                    env.pause(0);
                heap.deallocate(env, 1, of_a_full_slab);
            }
        });
        ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.message;
        solo_env env;
        const auto solo = Heap<solo_env>::over(arena.base(), layout);
        const unsigned size_class = size_class_of(max_slot_bytes);
        EXPECT_FALSE(solo.supply().list_of(size_class, 1).is_empty(env)) << "seed " << seed;
        EXPECT_TRUE(solo.supply().list_of(size_class, 0).is_empty(env)) << "seed " << seed;
    }
}

TEST(SimHeap, AClaimFindsEveryRunOfPages) { EXPECT_EQ(check_page_map(20'000, 1), ""); }

TEST(SimHeap, ASeedReplaysToTheSameTrace) {
    TinyArena arena;
    const auto run = [&](std::uint64_t seed, std::string& trace) {
        HeapProgram<sim_env<2>> program(small_scenario(), arena);
        const sim::Outcome outcome = program.run({seed, sim::Policy::random}, sim::Simulation::Tracing::on);
        EXPECT_TRUE(outcome) << outcome.message;
        trace = program.trace();
        return outcome.digest;
    };
    std::string all;
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        std::string first;
        std::string second;
        EXPECT_EQ(run(seed, first), run(seed, second));
        EXPECT_EQ(first, second);
        all += first;
    }
    EXPECT_NE(all.find("fetch_sub          slab["), std::string::npos);
    EXPECT_NE(all.find("(slab.hpp:"), std::string::npos);
}

} // namespace
