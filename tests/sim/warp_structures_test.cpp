// SPDX-License-Identifier: MIT
// What is built on the heap for whole warps, under the simulator: warp-wide blocks, scratch frames, lists, and the bump
// region. Several warps at once, any schedule; what they write must be what they read, and all must come back.
#include "run_on_heap.hpp"

#include "cuda_zstd/device/scratch_frame.hpp"
#include "cuda_zstd/device/warp_pool_vector.hpp"
#include "cuda_zstd/heap/bump.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

/// Warp-wide blocks: every lane gets the same pointer, writes its own part, and finds it unchanged.
template <unsigned Lanes>
void warp_blocks(unsigned seeds) {
    run_on_heap<Lanes>(three_warps(2), seeds, [](sim_env<Lanes>& env, const auto& pool, std::uint64_t seed) {
        constexpr LaneMask whole = sim_env<Lanes>::whole_warp;
        sim::Random draw(seed * 31 + env.thread() / Lanes); // the same in all lanes of a warp
        std::vector<std::uint32_t*> held;
        for (unsigned round = 0; round < 12; ++round) {
            if (draw.below(2) != 0) {
                const std::size_t bytes = std::size_t{16384} << draw.below(3);
                auto* const block = static_cast<std::uint32_t*>(pool.allocate_warp(env, bytes));
                const auto as_number = reinterpret_cast<std::uint64_t>(block);
                if (env.shfl(whole, as_number, 0) != as_number) env.simulation().fail("lanes got different blocks");
                if (block == nullptr) continue;
                block[env.lane()] = env.thread();
                held.push_back(block);
            } else if (!held.empty()) {
                env.pause(0); // the lanes drift apart
                if (held.back()[env.lane()] != env.thread()) env.simulation().fail("somebody wrote to a live block");
                pool.deallocate_warp(env, held.back());
                held.pop_back();
            }
        }
        for (; !held.empty(); held.pop_back()) {
            env.pause(0);
            if (held.back()[env.lane()] != env.thread()) env.simulation().fail("somebody wrote to a live block");
            pool.deallocate_warp(env, held.back());
        }
    });
}
TEST(WarpStructures, BlocksOfAWarp) {
    warp_blocks<1>(500);
    warp_blocks<2>(500);
    warp_blocks<4>(300);
    warp_blocks<32>(60);
}

/// Scratch frames of several warps, in a heap too small for them all.
template <unsigned Lanes>
void scratch_frames(unsigned seeds) {
    run_on_heap<Lanes>(three_warps(2), seeds, [](sim_env<Lanes>& env, const auto& pool, std::uint64_t seed) {
        sim::Random draw(seed * 37 + env.thread() / Lanes);
        for (unsigned scope = 0; scope < 4; ++scope) {
            ScratchFrame<sim_env<Lanes>> frame(env, pool, 16384);
            std::map<std::uint32_t*, std::size_t> blocks;
            for (unsigned round = 0; round < 6; ++round) {
                const std::size_t bytes = draw.below(8) == 0 ? 20'000 : 256 + draw.below(3000);
                auto* const block = static_cast<std::uint32_t*>(frame.allocate(bytes));
                if (block == nullptr) continue;
                if (reinterpret_cast<std::uintptr_t>(block) % 16 != 0) env.simulation().fail("not aligned");
                block[env.lane()] = env.thread() + round;
                block[bytes / 4 - 1 - env.lane()] = env.thread() + round;
                blocks.emplace(block, bytes);
                if (frame.taken_bytes() == 0) env.simulation().fail("a block of no region");
            }
            env.pause(0);
            for (const auto& [block, bytes] : blocks)
                if (block[env.lane()] != block[bytes / 4 - 1 - env.lane()] || block[env.lane()] - env.thread() > 6)
                    env.simulation().fail("somebody wrote to a live frame");
        }
    });
}
TEST(WarpStructures, ScratchFrames) {
    scratch_frames<1>(500);
    scratch_frames<2>(500);
    scratch_frames<4>(300);
    scratch_frames<32>(60);
}

/// Lists that grow side by side until the heap is full, against what the warp remembers.
template <unsigned Lanes>
void lists(unsigned seeds) {
    run_on_heap<Lanes>(three_warps(3), seeds, [](sim_env<Lanes>& env, const auto& pool_of_all, std::uint64_t seed) {
        auto pool = pool_of_all;
        using Vector = WarpPoolVector<std::uint64_t, sim_env<Lanes>, decltype(pool)>;
        sim::Random draw(seed * 41 + env.thread() / Lanes);
        const std::uint64_t mine = std::uint64_t{env.thread() / Lanes} << 32;
        Vector list;
        std::uint32_t expected = 0;
        const unsigned wanted = draw.below(3000);
        while (expected < wanted && list.push_back(env, pool, mine + expected))
            ++expected;
        env.sync(sim_env<Lanes>::whole_warp);
        if (list.size() != expected) env.simulation().fail("a list has lost count");
        std::uint32_t seen = 0;
        for (const auto* block = list.first(); block != nullptr; block = list.next(block))
            for (std::uint32_t i = 0; i < list.count(block); ++i)
                if (block->elements()[i] != mine + seen++) env.simulation().fail("a list has a wrong element");
        if (seen != expected) env.simulation().fail("a list is shorter than it says");
        env.sync(sim_env<Lanes>::whole_warp);
        if (draw.below(2) == 0) {
            list.drop_last_block(env, pool);
            if (expected != 0 && list.size() >= expected) env.simulation().fail("a block was not dropped");
        }
        list.clear(env, pool);
        if (list.size() != 0 || list.held_bytes() != 0) env.simulation().fail("a cleared list is not empty");
    });
}
TEST(WarpStructures, Lists) {
    lists<1>(100);
    lists<2>(100);
    lists<4>(60);
    lists<32>(12);
}

/// The bump region: every lane its own piece, null only when it is used up.
template <unsigned Lanes>
void bump_region(unsigned seeds) {
    sim::Shape shape;
    shape.warp_count = 3;
    shape.warp_lanes = Lanes;
    sim::Simulation simulation(shape);
    alignas(16) static char region_bytes[32 * 1024];
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Atom<std::uint64_t> used{0};
        const BumpRegion<sim_env<Lanes>> region{region_bytes, sizeof region_bytes, &used};
        std::map<char*, std::size_t> taken;
        unsigned refused = 0;
        sim::ScheduleSpec spec;
        spec.seed = seed;
        const sim::Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            sim_env<Lanes> env(simulation, thread);
            for (unsigned round = 0; round < 5; ++round) {
                const std::uint64_t bytes = 8 + 24 * (seed % 7); // lanes that call together ask for the same
                char* const block = static_cast<char*>(region.allocate(env, env.converged(), bytes));
                if (block == nullptr)
                    ++refused;
                else if (!taken.emplace(block, bytes).second)
                    simulation.fail("one piece was given twice");
            }
        });
        ASSERT_TRUE(outcome) << outcome.message;
        char* end = region_bytes;
        for (const auto& [block, bytes] : taken) {
            ASSERT_GE(block, end) << "two pieces overlap";
            end = block + bytes;
        }
        ASSERT_LE(end, region_bytes + sizeof region_bytes);
        ASSERT_EQ(refused != 0, used.value > sizeof region_bytes);
    }
}
TEST(WarpStructures, BumpRegion) {
    bump_region<1>(200);
    bump_region<4>(200);
    bump_region<32>(50);
}

} // namespace
