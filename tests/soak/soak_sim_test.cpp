// SPDX-License-Identifier: MIT
// The kernels of the soak in the simulator: that their warps come together where they call together, whatever the
// schedule, and that what they count adds up.
#include "cuda_zstd/heap/survey.hpp"
#include "tests/sim/tiny_arena.hpp"
#include "tests/soak/brisk_pairs.hpp"
#include "tests/soak/filling.hpp"
#include "tests/soak/random_pairs.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace cuda_zstd::soak {
namespace {

template <unsigned Lanes>
void run_schedules(unsigned warps, std::uint64_t schedules, std::uint32_t steps) {
    using Env = sim_env<Lanes>;
    test::TinyArena arena;
    test::Scenario scenario;
    scenario.warps = warps;
    scenario.lanes = Lanes;
    scenario.pages = 48;
    scenario.processors = 2;
    sim::Shape shape;
    shape.warp_count = warps;
    shape.warp_lanes = Lanes;
    shape.processor_count = scenario.processors;
    shape.step_limit = 10'000'000;
    sim::Simulation simulation(shape);
    std::uint64_t pairs = 0;
    for (std::uint64_t seed = 1; seed <= schedules; ++seed) {
        const HeapLayout layout = arena.reset(scenario);
        const BasicPoolRef<Env> pool(Heap<Env>::over(arena.base(), layout));
        std::vector<Mailbox<Env>> boxes(16);
        std::vector<void*> lists(warps * list_length);
        Tally<Env> tally{};
        const RandomPairs<Env> body{boxes.data(),
                                    static_cast<std::uint32_t>(boxes.size()),
                                    &tally,
                                    lists.data(),
                                    seed,
                                    seed,
                                    steps,
                                    static_cast<Sizes>(seed % static_cast<std::uint32_t>(Sizes::count)),
                                    static_cast<std::uint32_t>(seed % size_class_count)};
        sim::ScheduleSpec spec;
        spec.policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
        spec.seed = seed;
        // Brisk pairs first: what they leave in mailboxes is the wide mixture's to free.
        const BriskPairs<Env> brisk{
            boxes.data(), body.box_count, &tally, seed, seed + 1, steps, {static_cast<std::uint32_t>(seed % 12), 1}};
        const sim::Outcome before = simulation.run(spec, [&](unsigned thread) {
            Env env(simulation, thread);
            brisk(env, pool, thread);
        });
        ASSERT_TRUE(before) << "seed " << seed << ": " << before.message;
        const sim::Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            Env env(simulation, thread);
            body(env, pool, thread);
        });
        ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.message;
        const EmptyBoxes<Env> empty{boxes.data(), body.box_count, &tally, warps * Lanes};
        const sim::Outcome emptied = simulation.run(spec, [&](unsigned thread) {
            Env env(simulation, thread);
            empty(env, pool, thread);
        });
        ASSERT_TRUE(emptied) << "seed " << seed << ": " << emptied.message;
        ASSERT_EQ(tally.faults.value, 0u) << "seed " << seed << ", offset " << tally.first.at;
        solo_env env;
        const auto heap = Heap<solo_env>::over(arena.base(), layout);
        for (std::uint32_t page = 0; page < layout.page_count; ++page)
            ASSERT_EQ(survey_page(env, heap, page, [](unsigned, unsigned) {}).live_blocks, 0u)
                << "seed " << seed << ", page " << page;
        pairs += tally.pairs.value;
    }
    EXPECT_GT(pairs, schedules * warps) << "hardly anything was allocated";
}

TEST(Simulated, TwoWarpsOfTwo) { run_schedules<2>(2, 2000, 24); }
TEST(Simulated, TwoWholeWarps) { run_schedules<32>(2, 60, 16); }

} // namespace
} // namespace cuda_zstd::soak
