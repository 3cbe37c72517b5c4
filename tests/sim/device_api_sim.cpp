// SPDX-License-Identifier: MIT
// What kernel authors call, under the simulator: groups of lanes, many blocks at once, vectors, thread blocks. Several
// warps at once, any schedule, heaps of a few pages, so that requests fail in the middle of everything.
#include "run_on_heap.hpp"

#include "cuda_zstd/device/block_allocate.hpp"
#include "cuda_zstd/device/block_scratch_frame.hpp"
#include "cuda_zstd/device/pool_vector_ref.hpp"
#include "cuda_zstd/device/scratch_frame.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

/// Each tile of a warp allocates and frees for itself; now and then one lane or another comes late.
template <unsigned Lanes, unsigned Size>
void tiles(unsigned seeds) {
    run_on_heap<Lanes>(three_warps(2), seeds, [](sim_env<Lanes>& env, const auto& pool, std::uint64_t seed) {
        const LaneMask tile = low_bits(Size) << (env.lane() / Size * Size);
        sim::Random draw(seed * 43 + env.thread() / Size); // the same in all lanes of a tile
        std::vector<std::uint32_t*> held;
        const auto free_one = [&] {
            if (held.back()[env.lane()] != env.thread()) env.simulation().fail("somebody wrote to a live block");
            if (pool.deallocate_group(env, tile, held.back()) != Status::ok)
                env.simulation().fail("a good free was refused");
            held.pop_back();
        };
        for (unsigned round = 0; round < 8; ++round) {
            if (env.lane() % 3 == round % 3) env.pause(0);
            if (draw.below(2) != 0) {
                Status status = Status::invalid;
                auto* const block = static_cast<std::uint32_t*>(
                    pool.try_allocate_group(env, tile, std::size_t{8192} << draw.below(4), 16, status));
                const auto as_number = reinterpret_cast<std::uint64_t>(block);
                if (env.shfl(tile, as_number, lowest_bit(tile)) != as_number)
                    env.simulation().fail("lanes got different blocks");
                if ((status == Status::ok) != (block != nullptr)) env.simulation().fail("the status does not fit");
                if (block == nullptr) continue;
                block[env.lane()] = env.thread();
                held.push_back(block);
            } else if (!held.empty()) {
                free_one();
            }
        }
        while (!held.empty())
            free_one();
    });
}
TEST(DeviceApiSim, OneBlockForATile) {
    tiles<4, 2>(400);
    tiles<4, 1>(200);
    tiles<32, 8>(40);
}

/// A warp asks for many blocks of one size, of which there may be fewer.
template <unsigned Lanes>
void many_blocks(unsigned seeds) {
    std::vector<std::array<void*, 40>> places(3);
    run_on_heap<Lanes>(three_warps(2), seeds, [&](sim_env<Lanes>& env, const auto& pool, std::uint64_t seed) {
        constexpr LaneMask whole = sim_env<Lanes>::whole_warp;
        const unsigned warp = env.thread() / Lanes;
        sim::Random draw(seed * 47 + warp);
        void** const mine = places[warp].data();
        for (unsigned round = 0; round < 3; ++round) {
            const std::uint32_t count = draw.below(40);
            const std::size_t bytes = std::size_t{1024} << draw.below(7); // slots, and pages lane by lane
            const Shortfall shortfall = draw.below(2) == 0 ? Shortfall::keep : Shortfall::give_back;
            Status status = Status::invalid;
            const std::uint32_t got = pool.allocate_many(env, whole, bytes, 16, count, mine, shortfall, status);
            if ((status == Status::ok) != (got == count)) env.simulation().fail("the status does not fit");
            const std::uint32_t held = got == count || shortfall == Shortfall::keep ? got : 0;
            for (std::uint32_t at = 0; at < count; ++at)
                if ((mine[at] != nullptr) != (at < held)) env.simulation().fail("a wrong entry");
            for (std::uint32_t at = env.lane(); at < held; at += Lanes)
                *static_cast<std::uint32_t*>(mine[at]) = warp * 1000 + at;
            env.pause(0);
            env.sync(whole);
            for (std::uint32_t at = 0; at < held; ++at)
                if (*static_cast<std::uint32_t*>(mine[at]) != warp * 1000 + at)
                    env.simulation().fail("somebody wrote to a live block");
            if (pool.deallocate_many(env, whole, held, mine) != 0) env.simulation().fail("a good free was refused");
        }
    });
}
TEST(DeviceApiSim, ManyBlocksAtOnce) {
    many_blocks<1>(300);
    many_blocks<2>(300);
    many_blocks<4>(200);
    many_blocks<32>(40);
}

/// Lanes of all warps append to one vector, one by one and in pieces, until the heap is full or they are done.
template <unsigned Lanes>
void vectors(std::uint32_t pages, unsigned seeds) {
    using Env = sim_env<Lanes>;
    using Vector = BasicPoolVectorRef<std::uint64_t, Env, 64>;
    struct Told {
        std::uint64_t appended = 0;
        std::uint64_t wanted = 0;
        std::vector<std::uint32_t> of_lane = std::vector<std::uint32_t>(3 * Lanes);
        unsigned lanes_done = 0;
    };
    TinyArena arena;
    sim::Shape shape;
    shape.warp_count = 3;
    shape.warp_lanes = Lanes;
    shape.processor_count = 2;
    shape.step_limit = 3'000'000;
    sim::Simulation simulation(shape);
    std::uint64_t closed_runs = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Scenario scenario = three_warps(pages);
        scenario.lanes = Lanes;
        PoolVectorState<Env> state{};
        state.arena = arena.base();
        state.layout = arena.reset(scenario);
        const Vector vector(&state);
        Told told;
        sim::ScheduleSpec spec;
        spec.seed = seed;
        spec.policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
        const sim::Outcome outcome = simulation.run(spec, [&](unsigned thread) {
            Env env(simulation, thread);
            sim::Random draw(seed * 53 + thread);
            std::uint64_t values[700];
            for (unsigned round = 0; round < 4; ++round) {
                const std::uint64_t next = std::uint64_t{thread} << 32 | told.of_lane[thread];
                std::uint32_t done = 0;
                std::uint32_t wants = 1;
                if (draw.below(2) == 0) {
                    done = vector.push_back(env, next) ? 1 : 0;
                } else {
                    wants = draw.below(4) == 0 ? draw.below(700) : draw.below(5);
                    for (std::uint32_t at = 0; at < wants; ++at)
                        values[at] = next + at;
                    done = vector.append(env, values, wants);
                }
                told.wanted += wants;
                told.appended += done;
                told.of_lane[thread] += done;
            }
        });
        ASSERT_TRUE(outcome) << "seed " << seed << ": " << outcome.message;

        const BasicPoolVectorRef<std::uint64_t, solo_env, 64> at_rest(
            reinterpret_cast<PoolVectorState<solo_env>*>(&state));
        solo_env env;
        ASSERT_EQ(at_rest.size(env), told.appended) << "seed " << seed;
        ASSERT_EQ(at_rest.refused(env), told.wanted - told.appended) << "seed " << seed;
        ASSERT_EQ(state.closed.value != 0, told.wanted != told.appended) << "seed " << seed;
        closed_runs += state.closed.value != 0;
        std::vector<std::uint32_t> seen(3 * Lanes);
        for (std::uint64_t index = 0; index < told.appended; ++index) {
            ASSERT_NE(at_rest.at(env, index), nullptr);
            const std::uint64_t value = *at_rest.at(env, index);
            ASSERT_LT(value >> 32, seen.size()) << "seed " << seed << ", index " << index;
            ASSERT_EQ(static_cast<std::uint32_t>(value), seen[value >> 32]++) << "seed " << seed;
        }
        ASSERT_EQ(seen, told.of_lane) << "seed " << seed;
        at_rest.reopen(env);
        ASSERT_EQ(at_rest.size(env), told.appended) << "seed " << seed;
        at_rest.clear(env);
        const auto heap = Heap<solo_env>::over(arena.base(), state.layout);
        while (heap.supply().reclaim(env)) {
        }
        ASSERT_EQ(heap.control(ControlCell::free_pages).value, state.layout.page_count) << "seed " << seed;
    }
    if (pages <= 2)
        EXPECT_GT(closed_runs, 0u) << "no run was short of memory";
    else
        EXPECT_LT(closed_runs, seeds) << "every run was short of memory";
}
TEST(DeviceApiSim, Vectors) {
    vectors<1>(2, 300);
    vectors<2>(2, 400);
    vectors<4>(2, 300);
    vectors<4>(20, 200);
    vectors<32>(2, 40);
    vectors<32>(20, 30);
}

/// A thread block of simulated warps.
template <unsigned Lanes>
class sim_block {
public:
    using Env = sim_env<Lanes>;
    using Cell = Atom<std::uint32_t>;
    struct Barrier {
        Cell arrived{0};
        Cell generation{0};
    };

    sim_block(Env& env, Barrier& barrier, unsigned warps) : env_(env), barrier_(barrier), threads_(warps * Lanes) {}

    Env& env() { return env_; }
    unsigned thread() const { return env_.thread() % threads_; }
    unsigned threads() const { return threads_; }
    void sync() {
        const std::uint32_t generation = env_.load(barrier_.generation, Order::acquire);
        if (env_.fetch_add(barrier_.arrived, 1u, Order::acq_rel) + 1 == threads_) {
            env_.store(barrier_.arrived, 0u, Order::relaxed);
            env_.store(barrier_.generation, generation + 1u, Order::release);
        } else {
            while (env_.load(barrier_.generation, Order::acquire) == generation)
                env_.pause(0);
        }
    }
    std::uint32_t load(const Cell& cell) { return env_.load(cell, Order::relaxed); }
    void store(Cell& cell, std::uint32_t value) { env_.store(cell, value, Order::relaxed); }
    std::uint32_t fetch_add(Cell& cell, std::uint32_t value) { return env_.fetch_add(cell, value, Order::relaxed); }

private:
    Env& env_;
    Barrier& barrier_;
    unsigned threads_;
};

/// Two thread blocks of two warps: frames within frames, then many blocks at once, in a heap too small for them all.
template <unsigned Lanes>
void thread_blocks(unsigned seeds) {
    using Block = sim_block<Lanes>;
    struct OfBlock {
        typename Block::Barrier barrier;
        BlockScratchStorage<sim_env<Lanes>> storage{};
        BlockBoard<sim_env<Lanes>> board{};
        std::array<void*, 24> places{};
    };
    std::array<OfBlock, 2> blocks;
    Scenario scenario = three_warps(2);
    scenario.warps = 4;
    std::uint64_t last_seed = 0;
    run_on_heap<Lanes>(scenario, seeds, [&](sim_env<Lanes>& env, const auto& pool, std::uint64_t seed) {
        if (seed != last_seed) { // the first lane of a run: nothing is left of the run before
            last_seed = seed;
            blocks = {};
        }
        const unsigned index = env.thread() / (2 * Lanes);
        OfBlock& shared = blocks[index];
        Block block(env, shared.barrier, 2);
        sim::Random draw(seed * 59 + env.thread());
        sim::Random common(seed * 61 + index);
        std::map<std::uint32_t*, std::size_t> pieces;
        const auto take = [&](auto& frame, unsigned most) {
            for (unsigned count = draw.below(most); count != 0; --count) {
                const std::size_t bytes = draw.below(12) == 0 ? 9000 : 4 * (1 + draw.below(10u << draw.below(5)));
                auto* const memory = static_cast<std::uint32_t*>(frame.allocate(bytes));
                if (memory == nullptr) continue;
                memory[0] = env.thread();
                memory[bytes / 4 - 1] = env.thread();
                pieces.emplace(memory, bytes);
            }
        };
        const auto check = [&] {
            for (const auto& [memory, bytes] : pieces)
                if (memory[0] != env.thread() || memory[bytes / 4 - 1] != env.thread())
                    env.simulation().fail("somebody wrote to a live piece");
        };
        {
            // A small region is fought over at its end.
            BlockScratchFrame<Block> frame(block, pool, shared.storage, 64u << common.below(7));
            take(frame, 3);
            for (unsigned inner = 0; inner < 2; ++inner) {
                const auto outside = pieces;
                const ScratchScope within(frame);
                take(frame, 4);
                check();
                pieces = outside;
            }
            check();
        }
        const std::uint32_t count = common.below(20);
        Status status = Status::invalid;
        const std::uint32_t got = block_allocate_many(block, pool, shared.board, std::size_t{2048} << common.below(3),
                                                      16, count, shared.places.data(), Shortfall::keep, status);
        if ((status == Status::ok) != (got == count)) env.simulation().fail("the status does not fit");
        // The next call on the same board comes at once.
        void** const others = shared.places.data() + 20;
        const std::uint32_t again =
            block_allocate_many(block, pool, shared.board, 100, 16, 4, others, Shortfall::give_back, status);
        if ((status == Status::ok) != (again == 4)) env.simulation().fail("the status does not fit");
        for (std::uint32_t at = block.thread(); at < got; at += block.threads())
            *static_cast<std::uint32_t*>(shared.places[at]) = at;
        block.sync();
        for (std::uint32_t at = 0; at < got; ++at)
            if (*static_cast<std::uint32_t*>(shared.places[at]) != at)
                env.simulation().fail("somebody wrote to a live block");
        block_deallocate_many(block, pool, got, shared.places.data());
        auto* const one = static_cast<std::uint32_t*>(block_allocate(block, pool, shared.board, 3000, 16, status));
        void* const two = block_allocate(block, pool, shared.board, 3000, 16, status);
        block_deallocate_many(block, pool, 4, others);
        if (one != nullptr && one == two) env.simulation().fail("two calls returned one block");
        block_deallocate(block, pool, two);
        if (one != nullptr) one[block.thread()] = env.thread();
        block.sync();
        if (one != nullptr && one[block.thread()] != env.thread())
            env.simulation().fail("somebody wrote to a live block");
        block_deallocate(block, pool, one);
    });
}
TEST(DeviceApiSim, ThreadBlocks) {
    thread_blocks<1>(200);
    thread_blocks<2>(400);
    thread_blocks<4>(200);
    thread_blocks<32>(6);
}

} // namespace
