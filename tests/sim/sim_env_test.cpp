// SPDX-License-Identifier: MIT
// The simulator itself: right programs pass, planted bugs are found, and a seed replays to the same trace.
#include "cuda_zstd/env/sim_env.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace {

using cuda_zstd::Atom;
using cuda_zstd::LaneMask;
using cuda_zstd::Order;
using cuda_zstd::sim_env;
using cuda_zstd::sim::Outcome;
using cuda_zstd::sim::Policy;
using cuda_zstd::sim::ScheduleSpec;
using cuda_zstd::sim::Shape;
using cuda_zstd::sim::Simulation;
using cuda_zstd::sim::Verdict;

static_assert(cuda_zstd::Environment<sim_env<1>>);
static_assert(cuda_zstd::Environment<sim_env<2>>);
static_assert(cuda_zstd::Environment<sim_env<32>>);
static_assert(sizeof(sim_env<4>::atom<std::uint64_t>) == sizeof(std::uint64_t));

Shape shape_of(unsigned warps, unsigned lanes) {
    Shape shape;
    shape.warp_count = warps;
    shape.warp_lanes = lanes;
    shape.step_limit = 100'000;
    return shape;
}

/// Each lane takes a distinct number; the lanes that arrive together share one atomic.
template <class Env>
std::uint32_t take_number(Env& env, typename Env::template atom<std::uint32_t>& counter) {
    const LaneMask group = env.converged();
    const unsigned leader = static_cast<unsigned>(std::countr_zero(group));
    std::uint32_t base = 0;
    if (env.lane() == leader)
        base = env.fetch_add(counter, static_cast<std::uint32_t>(std::popcount(group)), Order::relaxed);
    base = env.shfl(group, base, leader);
    return base + static_cast<std::uint32_t>(std::popcount(group & ((LaneMask{1} << env.lane()) - 1)));
}

template <unsigned Lanes>
void expect_distinct_numbers(unsigned warps, Policy policy, unsigned seeds) {
    Simulation simulation(shape_of(warps, Lanes));
    Atom<std::uint32_t> counter{};
    std::vector<unsigned> taken(std::size_t{3} * warps * Lanes);
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
        counter.value = 0;
        taken.assign(taken.size(), 0);
        ScheduleSpec spec;
        spec.policy = policy;
        spec.seed = seed;
        const Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            sim_env<Lanes> env(simulation, thread);
            for (int round = 0; round < 3; ++round)
                ++taken.at(take_number(env, counter));
        });
        ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.message;
        ASSERT_EQ(counter.value, taken.size());
        ASSERT_EQ(taken, std::vector<unsigned>(taken.size(), 1u)) << "seed " << seed;
    }
}

TEST(SimEnv, WarpAggregatedCounterGivesEachLaneItsOwnNumber) {
    expect_distinct_numbers<1>(3, Policy::random, 300);
    expect_distinct_numbers<2>(2, Policy::random, 300);
    expect_distinct_numbers<4>(2, Policy::pct, 300);
    expect_distinct_numbers<32>(4, Policy::random, 50);
    expect_distinct_numbers<32>(4, Policy::pct, 50);
    expect_distinct_numbers<2>(2, Policy::bytes, 1);
}

/// How many of `seeds` schedules lose an update of a counter that is read and written in two steps.
unsigned lost_updates(Policy policy, unsigned seeds) {
    Simulation simulation(shape_of(2, 2));
    Atom<std::uint32_t> counter{};
    unsigned lost = 0;
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
        counter.value = 0;
        ScheduleSpec spec;
        spec.policy = policy;
        spec.seed = seed;
        spec.expected_step_count = 10;
        const Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            sim_env<2> env(simulation, thread);
            const std::uint32_t seen = env.load(counter, Order::acquire);
            env.store(counter, seen + 1, Order::release);
        });
        EXPECT_TRUE(outcome) << outcome.message;
        lost += counter.value != 4;
    }
    return lost;
}

TEST(SimEnv, FindsTheLostUpdate) {
    EXPECT_GT(lost_updates(Policy::random, 100), 50u);
    EXPECT_GT(lost_updates(Policy::pct, 100), 5u);
}

TEST(SimEnv, BytesDecideTheSchedule) {
    Simulation simulation(shape_of(1, 2));
    Atom<std::uint32_t> counter{};
    const auto run = [&](std::vector<std::uint8_t> bytes) {
        counter.value = 0;
        ScheduleSpec spec;
        spec.policy = Policy::bytes;
        spec.bytes = bytes;
        const Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            sim_env<2> env(simulation, thread);
            const std::uint32_t seen = env.load(counter, Order::acquire);
            env.store(counter, seen + 1, Order::release);
        });
        EXPECT_TRUE(outcome) << outcome.message;
        return counter.value;
    };
    // The ready lanes are listed as 0, 1: lane 0 runs to its end before lane 1 starts, or they interleave.
    EXPECT_EQ(run({0, 0, 0, 0, 0, 0}), 2u);
    EXPECT_EQ(run({0, 0, 1, 1, 0, 1}), 1u);
}

TEST(SimEnv, FindsTheDeadlockOfMirroredRefills) {
    // Lane 0 of each warp holds one lock and wants the other; lane 1 waits for lane 0 in a collective.
    Simulation simulation(shape_of(2, 2));
    Atom<std::uint32_t> locks[2] = {};
    unsigned stuck = 0;
    unsigned passed = 0;
    std::string report;
    simulation.names().add("lock", locks, 2, sizeof locks[0]);
    Shape shape = shape_of(2, 2);
    shape.step_limit = 2000;
    Simulation bounded(shape);
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        locks[0].value = locks[1].value = 0;
        ScheduleSpec spec;
        spec.seed = seed;
        const Outcome outcome = bounded.run(spec, [&](unsigned thread) {
            sim_env<2> env(bounded, thread);
            const unsigned warp = thread / 2;
            const auto lock = [&](unsigned which) {
                for (unsigned attempt = 0;; ++attempt) {
                    std::uint32_t expected = 0;
                    if (env.compare_exchange(locks[which], expected, 1u, Order::acquire)) return;
                    env.pause(attempt);
                }
            };
            if (env.lane() == 0) {
                lock(warp);
                lock(1 - warp);
                env.store(locks[warp], 0u, Order::release);
                env.store(locks[1 - warp], 0u, Order::release);
            }
            env.sync(3);
        });
        if (outcome) {
            ++passed;
            continue;
        }
        EXPECT_EQ(outcome.verdict, Verdict::step_limit);
        report = outcome.message;
        ++stuck;
    }
    EXPECT_GT(stuck, 0u);
    EXPECT_GT(passed, 0u);
    EXPECT_NE(report.find("waits in sync(mask 00000003)"), std::string::npos) << report;
}

/// The verdict of one run of `body` in one warp of four lanes, and its message.
template <class Body>
Outcome run_four(Body body, std::uint64_t seed = 1) {
    Simulation simulation(shape_of(1, 4));
    ScheduleSpec spec;
    spec.seed = seed;
    return simulation.run(spec, [&](unsigned thread) {
        sim_env<4> env(simulation, thread);
        body(env);
    });
}

TEST(SimEnv, FindsALaneThatNeverComes) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        const Outcome outcome = run_four(
            [](sim_env<4>& env) {
                if (env.lane() != 2) env.sync(0xf);
            },
            seed);
        EXPECT_EQ(outcome.verdict, Verdict::misuse);
        EXPECT_TRUE(outcome.message.find("returned") != std::string::npos) << outcome.message;
    }
}

TEST(SimEnv, FindsTwoCollectivesThatWaitForEachOther) {
    const Outcome other_kind = run_four([](sim_env<4>& env) {
        if (env.lane() < 2)
            env.sync(0xf);
        else
            env.ballot(0xf, true);
    });
    EXPECT_EQ(other_kind.verdict, Verdict::misuse);
    EXPECT_NE(other_kind.message.find("another collective"), std::string::npos) << other_kind.message;
    const Outcome other_mask = run_four([](sim_env<4>& env) { env.sync(env.lane() < 2 ? 0xfu : 0xeu); });
    EXPECT_EQ(other_mask.verdict, Verdict::misuse);
    // Three lanes in a ring: no two of them disagree, and yet nobody can go on.
    const Outcome ring = run_four([](sim_env<4>& env) {
        const LaneMask masks[] = {0b0011, 0b0110, 0b0101, 0b1000};
        env.sync(masks[env.lane()]);
    });
    EXPECT_EQ(ring.verdict, Verdict::deadlock) << ring.message;
}

TEST(SimEnv, FindsWrongMasksAndSources) {
    EXPECT_EQ(run_four([](sim_env<4>& env) { env.sync(0xf & ~(LaneMask{1} << env.lane())); }).verdict, Verdict::misuse);
    EXPECT_EQ(run_four([](sim_env<4>& env) { env.sync(0x1f); }).verdict, Verdict::misuse);
    EXPECT_EQ(run_four([](sim_env<4>& env) { env.shfl(LaneMask{1} << env.lane(), 1u, 3); }).verdict, Verdict::misuse);
    EXPECT_EQ(run_four([](sim_env<4>&) { throw std::runtime_error("boom"); }).verdict, Verdict::exception);
}

TEST(SimEnv, NestedGroupsMayMeetOneByOne) {
    // Lanes 0 and 1 first agree among themselves, then all four: legal, in whatever order they arrive.
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        const Outcome outcome = run_four(
            [](sim_env<4>& env) {
                if (env.lane() < 2) env.sync(0x3);
                env.sync(0xf);
            },
            seed);
        EXPECT_TRUE(outcome) << outcome.message;
    }
}

TEST(SimEnv, CollectivesComputeWhatTheySay) {
    const Outcome outcome = run_four([](sim_env<4>& env) {
        const auto check = [&](bool good, const char* what) {
            if (!good) env.simulation().fail(what);
        };
        const unsigned lane = env.lane();
        check(env.match_any(0xf, lane % 2) == (lane % 2 == 0 ? 0x5u : 0xau), "match_any");
        check(env.ballot(0xf, lane != 1) == 0xd, "ballot");
        check(env.shfl(0xf, std::uint64_t{1} << (40 + lane), (lane + 1) % 4) == std::uint64_t{1}
                                                                                    << (40 + (lane + 1) % 4),
              "shfl");
        check(env.warp_sum(lane + 1) == 10, "warp_sum");
        check(env.warp_sum(0x80000000u) == 0, "warp_sum wraps");
        check(env.warp_exclusive_sum(lane + 1) == lane * (lane + 1) / 2, "warp_exclusive_sum");
        check(env.warp_max(lane * 3) == 9, "warp_max");
    });
    EXPECT_TRUE(outcome) << outcome.message;
}

TEST(SimEnv, AtomicsComputeWhatTheySay) {
    Simulation simulation(shape_of(1, 1));
    const Outcome outcome = simulation.run({}, [&](unsigned thread) {
        sim_env<1> env(simulation, thread);
        Atom<std::uint32_t> a{5};
        EXPECT_EQ(env.fetch_add(a, 3u, Order::relaxed), 5u);
        EXPECT_EQ(env.fetch_sub(a, 1u, Order::relaxed), 8u);
        EXPECT_EQ(env.fetch_or(a, 8u, Order::relaxed), 7u);
        EXPECT_EQ(env.fetch_and(a, 12u, Order::relaxed), 15u);
        EXPECT_EQ(env.fetch_min(a, 20u, Order::relaxed), 12u);
        EXPECT_EQ(env.fetch_min(a, 2u, Order::relaxed), 12u);
        EXPECT_EQ(env.exchange(a, 40u, Order::relaxed), 2u);
        std::uint32_t expected = 39;
        EXPECT_FALSE(env.compare_exchange(a, expected, 1u, Order::acq_rel));
        EXPECT_EQ(expected, 40u);
        EXPECT_TRUE(env.compare_exchange(a, expected, 1u, Order::acq_rel));
        EXPECT_EQ(env.load(a, Order::acquire), 1u);
        Atom<std::uint64_t> wide{~std::uint64_t{0}};
        EXPECT_EQ(env.fetch_add(wide, std::uint64_t{1}, Order::relaxed), ~std::uint64_t{0});
        EXPECT_EQ(env.load(wide, Order::relaxed), 0u);
    });
    EXPECT_TRUE(outcome) << outcome.message;
}

TEST(SimEnv, ConvergedDrawsAllAndProperSubsets) {
    std::set<LaneMask> seen;
    Simulation simulation(shape_of(1, 4));
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        ScheduleSpec spec;
        spec.seed = seed;
        const Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            sim_env<4> env(simulation, thread);
            const LaneMask group = env.converged();
            if ((group >> env.lane() & 1u) == 0) simulation.fail("the caller is not in its own group");
            seen.insert(group);
            env.sync(group);
        });
        ASSERT_TRUE(outcome) << outcome.message;
    }
    EXPECT_EQ(seen.size(), 15u); // every non-empty subset of four lanes
}

TEST(SimEnv, ConvergedKeepsDifferentCallsApart) {
    Simulation simulation(shape_of(1, 4));
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        ScheduleSpec spec;
        spec.seed = seed;
        const Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            sim_env<4> env(simulation, thread);
            LaneMask group = 0;
            if (env.lane() % 2 == 0)
                group = env.converged();
            else
                group = env.converged();
            if ((group & (env.lane() % 2 == 0 ? 0xau : 0x5u)) != 0) simulation.fail("mixed two calls");
        });
        ASSERT_TRUE(outcome) << outcome.message;
    }
}

TEST(SimEnv, ASeedReplaysToTheSameTrace) {
    const auto trace_of = [](std::uint64_t seed, std::uint64_t& digest) {
        Simulation simulation(shape_of(2, 4));
        Atom<std::uint32_t> counters[2] = {};
        simulation.names().add("counter", counters, 2, sizeof counters[0]);
        ScheduleSpec spec;
        spec.seed = seed;
        const Outcome outcome = simulation.run(
            spec,
            [&](unsigned thread) {
                sim_env<4> env(simulation, thread);
                for (int round = 0; round < 4; ++round)
                    take_number(env, counters[round % 2]);
            },
            Simulation::Tracing::on);
        EXPECT_TRUE(outcome) << outcome.message;
        digest = outcome.digest;
        return simulation.trace();
    };
    std::set<std::string> different;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        std::uint64_t first_digest = 0;
        std::uint64_t second_digest = 1;
        const std::string first = trace_of(seed, first_digest);
        EXPECT_EQ(first, trace_of(seed, second_digest));
        EXPECT_EQ(first_digest, second_digest);
        different.insert(first);
    }
    EXPECT_GT(different.size(), 15u);
    EXPECT_NE(different.begin()->find("fetch_add          counter[1] 0x"), std::string::npos) << *different.begin();
    EXPECT_NE(different.begin()->find("(sim_env_test.cpp:"), std::string::npos);
}

TEST(SimEnv, AFailedRunLeavesTheSimulatorUsable) {
    Simulation simulation(shape_of(2, 2));
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        ScheduleSpec spec;
        spec.seed = seed;
        const bool fails = seed % 2 == 0;
        const Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            sim_env<2> env(simulation, thread);
            if (fails && thread == 3) simulation.fail("planted");
            env.sync(3);
        });
        EXPECT_EQ(outcome.verdict, fails ? Verdict::check_failed : Verdict::passed) << outcome.message;
    }
}

} // namespace
