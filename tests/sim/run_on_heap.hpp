// SPDX-License-Identifier: MIT
// Runs what is built on the heap under the simulator, on a new tiny heap for each schedule.
#pragma once

#include "heap_scenario.hpp"

#include "cuda_zstd/device/pool_ref.hpp"

#include <gtest/gtest.h>

namespace cuda_zstd::test {

/// Runs `body(env, pool)` in every lane under `seeds` schedules on a new heap each, and checks that all pages came
/// back.
template <unsigned Lanes, class Body>
void run_on_heap(Scenario scenario, unsigned seeds, Body body) {
    scenario.lanes = Lanes;
    TinyArena arena;
    sim::Shape shape;
    shape.warp_count = scenario.warps;
    shape.warp_lanes = Lanes;
    shape.processor_count = scenario.processors;
    shape.step_limit = 3'000'000;
    sim::Simulation simulation(shape);
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        const HeapLayout layout = arena.reset(scenario);
        const BasicPoolRef<sim_env<Lanes>> pool(Heap<sim_env<Lanes>>::over(arena.base(), layout));
        sim::ScheduleSpec spec;
        spec.seed = seed;
        spec.policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
        const sim::Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            sim_env<Lanes> env(simulation, thread);
            body(env, pool, seed);
        });
        ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.message;
        const auto solo = Heap<solo_env>::over(arena.base(), layout);
        solo_env env;
        while (solo.supply().reclaim(env)) {
        }
        const Ledger nothing(solo.pages_base(), layout.payload_bytes());
        ASSERT_EQ(audit_at_rest(arena.base(), layout, nothing), "") << "seed " << seed;
        ASSERT_EQ(solo.control(ControlCell::free_pages).value, layout.page_count) << "seed " << seed;
    }
}

inline Scenario three_warps(std::uint32_t pages) {
    Scenario scenario;
    scenario.warps = 3;
    scenario.pages = pages;
    scenario.processors = 2;
    return scenario;
}

} // namespace cuda_zstd::test
