// SPDX-License-Identifier: MIT
// Chunks come and go while other warps allocate and free, under the simulator: no block ever lies in a chunk that is
// away, cursors and lists hold none of its pages, and nobody is told that the heap is full because of it.
#include "heap_scenario.hpp"

#include "cuda_zstd/heap/chunks.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

constexpr std::uint32_t chunk_pages = 32;
constexpr std::uint32_t chunk_count = 2;

/// Takes a chunk without the all or nothing of HeapChunks: proof that the checks can fail.
template <class Env>
bool take_carelessly(Env& env, const Heap<Env>& heap, const HeapChunks<Env>& chunks, std::uint32_t chunk) {
    if (!chunks.looks_free(env, chunk)) return false;
    env.store(heap.supply().pages.bits[chunk], 0u, Order::relaxed);
    env.fetch_sub(*heap.supply().pages.free_count, chunk_pages, Order::relaxed);
    env.fetch_sub(heap.control(ControlCell::mapped_pages), chunk_pages, Order::relaxed);
    for (std::uint32_t page = chunk * chunk_pages; page < (chunk + 1) * chunk_pages; ++page)
        env.store(heap.supply().entries[page], PageEntry::away, Order::relaxed);
    return true;
}

enum class Taking { as_written, careless };

/// One warp takes and opens chunks, the others allocate and free. Empty, or what is wrong.
template <unsigned Lanes>
std::string run_chunks(TinyArena& arena, std::uint64_t seed, Taking taking, unsigned& taken) {
    using Env = sim_env<Lanes>;
    Scenario scenario;
    scenario.warps = 3;
    scenario.lanes = Lanes;
    scenario.pages = chunk_pages * chunk_count;
    scenario.processors = 2;
    scenario.slab_log2_pages = static_cast<unsigned>(seed % 3);
    const HeapLayout layout = arena.reset(scenario);
    std::memset(arena.base() + layout.page_bits_offset, 0, chunk_count * sizeof(std::uint32_t));
    solo_env solo;
    HeapChunks<solo_env>::format(solo, arena.base(), layout, 0, 1);
    const Heap<solo_env> at_rest = Heap<solo_env>::over(arena.base(), layout);
    const HeapChunks<solo_env> chunks_at_rest(at_rest, chunk_pages);
    chunks_at_rest.open(solo, 0);
    chunks_at_rest.set_extent(solo, chunk_pages, 0);

    const Heap<Env> heap = Heap<Env>::over(arena.base(), layout);
    const HeapChunks<Env> chunks(heap, chunk_pages);
    std::array<bool, chunk_count> away{false, true};
    Ledger ledger(heap.pages_base(), layout.payload_bytes());
    sim::Shape shape;
    shape.warp_count = scenario.warps;
    shape.warp_lanes = Lanes;
    shape.processor_count = scenario.processors;
    shape.step_limit = scenario.step_limit;
    sim::Simulation simulation(shape);
    const auto chunk_of = [&](const void* block) {
        return static_cast<std::size_t>(static_cast<const char*>(block) - heap.pages_base()) >> page_shift >> 5;
    };
    const auto resize = [&](Env& env) {
        sim::Random draw(seed * 31);
        for (unsigned round = 0; round < 6; ++round) {
            const std::uint32_t chunk = draw.below(chunk_count);
            if (away[chunk]) {
                away[chunk] = false; // from here on its pages may be claimed
                chunks.open(env, chunk);
                // As after a trim that was to leave less: claims take the first chunk first, or not even all of it.
                chunks.set_extent(env, chunk_pages * chunk_count, draw.below(3) * (chunk_pages / 2));
            } else if (!away[1 - chunk]) {
                const bool was_taken = taking == Taking::as_written ? chunks.take_away(env, chunk)
                                                                    : take_carelessly(env, heap, chunks, chunk);
                if (!was_taken) continue;
                away[chunk] = true;
                ++taken;
                for (const auto& [offset, bytes] : ledger.live())
                    if (offset >> page_shift >> 5 <= chunk && (offset + bytes - 1) >> page_shift >> 5 >= chunk)
                        simulation.fail("a chunk was taken that a block lies in");
                if (chunk == 1) chunks.set_extent(env, chunk_pages, 0);
            }
        }
    };
    const auto use = [&](Env& env, unsigned thread) {
        sim::Random draw(seed * 977 + thread);
        static constexpr std::size_t sizes[] = {max_slot_bytes, 4096, page_bytes, 3 * page_bytes};
        for (unsigned round = 0; round < 5; ++round) {
            const std::size_t bytes = sizes[draw.below(4)];
            Status status = Status::ok;
            void* const block = heap.allocate(env, env.converged(), bytes, 16, status);
            // The blocks of four lanes leave a run of three pages in any chunk.
            if (status == Status::full && Lanes == 2) simulation.fail("full, with a chunk that is mostly free");
            if (block == nullptr) continue;
            if (const std::string complaint = ledger.take(block, bytes, 16); !complaint.empty())
                simulation.fail(std::string(complaint));
            if (away[chunk_of(block)]) simulation.fail("a block was handed out in a chunk that is away");
            ledger.give_back(block);
            if (heap.deallocate(env, env.converged(), block) != Status::ok) simulation.fail("a good free was refused");
        }
    };
    sim::ScheduleSpec spec;
    spec.seed = seed;
    spec.policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
    const sim::Outcome outcome = simulation.run(spec, [&](unsigned thread) {
        Env env(simulation, thread);
        if (thread >= Lanes)
            use(env, thread);
        else if (env.lane() == 0)
            resize(env);
    });
    if (!outcome) return outcome.message;
    while (at_rest.supply().reclaim(solo)) {
    }
    if (const std::string complaint = audit_at_rest(arena.base(), layout, ledger); !complaint.empty()) return complaint;
    const std::uint32_t mapped = (away[0] ? 0u : chunk_pages) + (away[1] ? 0u : chunk_pages);
    if (at_rest.control(ControlCell::mapped_pages).value != mapped) return "the count of mapped pages is wrong";
    if (at_rest.control(ControlCell::free_pages).value != mapped) return "a page did not come back";
    return {};
}

TEST(ChunksSim, NothingLivesInAChunkThatIsAway) {
    TinyArena arena;
    unsigned taken = 0;
    for (std::uint64_t seed = 1; seed <= 4000; ++seed)
        ASSERT_EQ(run_chunks<2>(arena, seed, Taking::as_written, taken), "") << "seed " << seed;
    for (std::uint64_t seed = 1; seed <= 100; ++seed)
        ASSERT_EQ(run_chunks<32>(arena, seed, Taking::as_written, taken), "") << "seed " << seed;
    EXPECT_GT(taken, 1000u) << "the test tests something";
}

TEST(ChunksSim, FindsACarelessTaking) {
    TinyArena arena;
    unsigned taken = 0;
    std::string complaint;
    for (std::uint64_t seed = 1; complaint.empty() && seed <= 4000; ++seed)
        complaint = run_chunks<2>(arena, seed, Taking::careless, taken);
    EXPECT_NE(complaint, "");
}

/// What is known of a free heap of one chunk, after `hold` has used it: whether the chunk can be taken.
template <class Hold>
bool can_take_after(const Hold& hold) {
    TinyArena arena;
    Scenario scenario;
    scenario.pages = chunk_pages;
    const HeapLayout layout = arena.reset(scenario);
    solo_env env;
    const Heap<solo_env> heap = Heap<solo_env>::over(arena.base(), layout);
    hold(env, heap);
    return HeapChunks<solo_env>(heap, chunk_pages).take_away(env, 0);
}

TEST(ChunksSim, ASlabOfACursorOrAListIsNoFreePage) {
    const auto allocate = [](solo_env& env, const Heap<solo_env>& heap, std::size_t bytes) {
        Status status = Status::ok;
        return heap.allocate(env, 1, bytes, 16, status);
    };
    EXPECT_TRUE(can_take_after([](solo_env&, const Heap<solo_env>&) {}));
    // An empty slab in a cursor: until it is reclaimed.
    const auto use_once = [&](solo_env& env, const Heap<solo_env>& heap) {
        heap.deallocate(env, 1, allocate(env, heap, 4096));
    };
    EXPECT_FALSE(can_take_after(use_once));
    EXPECT_TRUE(can_take_after([&](solo_env& env, const Heap<solo_env>& heap) {
        use_once(env, heap);
        while (heap.supply().reclaim(env)) {
        }
    }));
    // One live slot, in a slab that is on a list or in a cursor.
    EXPECT_FALSE(can_take_after([&](solo_env& env, const Heap<solo_env>& heap) {
        for (unsigned index = 0; index < 40; ++index) {
            void* const block = allocate(env, heap, 4096);
            if (index != 3) heap.deallocate(env, 1, block);
        }
        while (heap.supply().reclaim(env)) {
        }
    }));
    // A run.
    EXPECT_FALSE(can_take_after([&](solo_env& env, const Heap<solo_env>& heap) { allocate(env, heap, page_bytes); }));
}

} // namespace
