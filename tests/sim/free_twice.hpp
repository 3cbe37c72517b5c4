// SPDX-License-Identifier: MIT
// Warps whose lanes all free one block in the same call, beside warps that do likewise: one lane of each call must be
// told ok, the others of a double free, and the heap must be as if it had been freed once.
#pragma once

#include "ledger.hpp"
#include "rest_check.hpp"
#include "tiny_arena.hpp"

#include <cstdint>
#include <string>

namespace cuda_zstd::test {

/// One schedule of it. The simulation has the shape of the scenario.
template <unsigned Lanes>
sim::Outcome free_twice(sim::Simulation& simulation, const Scenario& scenario, TinyArena& arena, std::uint64_t seed) {
    const HeapLayout layout = arena.reset(scenario);
    const auto heap = Heap<sim_env<Lanes>>::over(arena.base(), layout);
    sim::ScheduleSpec spec;
    spec.seed = seed;
    spec.policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
    sim::Outcome outcome = simulation.run(spec, [&](unsigned thread) {
        sim_env<Lanes> env(simulation, thread);
        constexpr LaneMask whole = sim_env<Lanes>::whole_warp;
        for (unsigned round = 0; round < 4; ++round) {
            Status status = Status::ok;
            void* block = nullptr;
            if (env.lane() == 0) block = heap.allocate(env, 1u, seed % 2 == 0 ? 1024 : 32768, 16, status);
            block = env.shfl(whole, block, 0);
            if (block == nullptr) continue;
            const Status freed = heap.deallocate(env, whole, block);
            if (popcount(env.ballot(whole, freed == Status::ok)) != 1) simulation.fail("not freed by exactly one lane");
            if (freed != Status::ok && freed != Status::double_free) simulation.fail("a double free has another name");
        }
    });
    if (!outcome) return outcome;
    Ledger nothing(heap.pages_base(), layout.payload_bytes());
    sim::Random draw(seed);
    if (std::string complaint = check_rest(arena.base(), layout, nothing, draw); !complaint.empty())
        outcome = {sim::Verdict::check_failed, complaint, outcome.step_count, outcome.digest};
    return outcome;
}

} // namespace cuda_zstd::test
