// SPDX-License-Identifier: MIT
// Programs on a heap that has just what they ask for, or nothing: what moves while somebody looks for it must not be
// taken for what is not there, and who is refused moves nothing.
//
// Invariant: before and after each call under way there is a slot, or a page, for every request of a program that may
// not be refused. A scenario and a seed determine all.
#pragma once

#include "ledger.hpp"
#include "rest_check.hpp"
#include "tiny_arena.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cuda_zstd::test {

/// The programs for warps of `Lanes` lanes, of which most use the first lane only.
template <unsigned Lanes>
class TightHeap {
public:
    using Env = sim_env<Lanes>;
    static constexpr LaneMask whole = Env::whole_warp;

    TightHeap(Scenario scenario, TinyArena& arena)
        : scenario_(scenario), arena_(arena), simulation_(shape_of(scenario)) {}

    /// One slot is free, wherever the calls of some processors left it. One thread takes it and gives it back, the
    /// others give back a block each and take another.
    sim::Outcome one_slot_left(std::uint64_t seed) {
        begin(seed);
        std::vector<void*> blocks = fill(max_slot_bytes);
        shuffle(blocks);
        for (unsigned surplus = draw_.below(4); surplus != 0 && blocks.size() > surplus; --surplus) {
            for (unsigned gone = 0; gone < surplus; ++gone)
                give_from_anywhere(blocks);
            for (unsigned back = 0; back < surplus; ++back)
                blocks.push_back(take_from_anywhere(max_slot_bytes));
            shuffle(blocks);
        }
        give_from_anywhere(blocks);
        return run(seed, [&](Env& env, unsigned warp) {
            if (env.lane() != 0) return;
            void* mine = warp == 0 ? nullptr : blocks[warp];
            for (unsigned round = 0; round < scenario_.rounds; ++round) {
                if (mine != nullptr) release(env, 1u, mine);
                mine = must_take(env, 1u, max_slot_bytes);
                if (warp == 0) release(env, 1u, std::exchange(mine, nullptr));
            }
        });
    }

    /// The same for whole warps and small blocks: as many slots are free as a warp has lanes, anywhere in slabs of two
    /// words of bits, the second of which may be used in part.
    sim::Outcome few_slots_left(std::uint64_t seed) {
        begin(seed);
        const std::size_t bytes = draw_.below(2) == 0 ? 1024 : 1536;
        std::vector<void*> blocks = fill(bytes);
        shuffle(blocks);
        for (unsigned lane = 0; lane < Lanes; ++lane)
            give_from_anywhere(blocks);
        return run(seed, [&](Env& env, unsigned warp) {
            void* mine = warp == 0 ? nullptr : blocks[env.thread()];
            for (unsigned round = 0; round < scenario_.rounds; ++round) {
                if (warp != 0) release(env, whole, mine);
                mine = must_take(env, whole, bytes);
                if (warp == 0) release(env, whole, mine);
            }
        });
    }

    /// As many pages as warps, each of which has at most one block at a time, of changing sizes. So empty slabs of
    /// other sizes are all that there is.
    sim::Outcome one_page_each(std::uint64_t seed) {
        begin(seed);
        std::vector<void*> blocks;
        for (unsigned page = 0; page < scenario_.pages; ++page)
            blocks.push_back(take_from_anywhere(sizes[draw_.below(2)]));
        while (!blocks.empty())
            give_from_anywhere(blocks);
        return run(seed, [&](Env& env, unsigned warp) {
            if (env.lane() != 0) return;
            sim::Random own(seed * 0x9e37 + warp);
            for (unsigned round = 0; round < scenario_.rounds; ++round)
                release(env, 1u, must_take(env, 1u, sizes[own.below(3)]));
        });
    }

    /// A heap without a free slot, which groups of all sizes ask: they are told so, and move nothing, so that nobody
    /// keeps another from the proof.
    sim::Outcome refused(std::uint64_t seed) {
        begin(seed);
        (void)fill(max_slot_bytes);
        solo_env solo;
        for (unsigned processor = 0; processor < scenario_.processors; ++processor) { // used-up slabs leave the cursors
            solo_env here(processor);
            Status status = Status::ok;
            (void)solo_heap_.allocate(here, 1u, max_slot_bytes, min_slot_bytes, status);
        }
        const std::uint64_t before = solo_heap_.supply().stations.all_moves(solo);
        return run(seed, [&](Env& env, unsigned warp) {
            sim::Random shared(seed * 0x9e37 + warp);
            for (unsigned round = 0; round < scenario_.rounds; ++round) {
                const LaneMask lanes = low_bits(1u + shared.below(Lanes));
                if ((lanes >> env.lane() & 1u) == 0) continue;
                Status status = Status::ok;
                if (heap_.allocate(env, lanes, max_slot_bytes, min_slot_bytes, status) != nullptr)
                    env.simulation().fail("a full heap had a block");
                if (status != Status::full) env.simulation().fail("a full heap did not say full");
            }
            if (heap_.supply().stations.all_moves(env) != before) env.simulation().fail("who was refused moved");
        });
    }

    /// Whole warps and single lanes ask for blocks of one size, now and then for a run: groups take slabs of their
    /// own, share the cursor's, set it aside, and bring a larger one.
    sim::Outcome groups(std::uint64_t seed) {
        begin(seed);
        const std::size_t bytes = sizes[draw_.below(2)];
        return run(seed, [&](Env& env, unsigned warp) {
            sim::Random shared(seed * 0x9e37 + warp);
            std::array<void*, most_held> held = {};
            for (unsigned round = 0; round < scenario_.rounds; ++round) {
                void*& block = held[shared.below(most_held)];
                const unsigned kind = shared.below(8);
                const LaneMask lanes = kind < 5 ? whole : LaneMask{1} << shared.below(Lanes);
                if ((lanes >> env.lane() & 1u) == 0) continue;
                if (env.ballot(lanes, block != nullptr) != 0)
                    release(env, lanes, std::exchange(block, nullptr));
                else
                    block = take(env, lanes, kind == 7 ? 2 * page_bytes : bytes).first;
            }
            env.sync(whole);
            for (void*& block : held)
                release(env, whole, std::exchange(block, nullptr));
        });
    }

    /// A slab that groups share, small and used up, is set aside in the cursor, and pages are too few to replace it. A
    /// warp tries to, while another thread gives back all that is in it and reclaims.
    sim::Outcome set_aside(std::uint64_t seed) {
        begin(seed);
        solo_env solo;
        std::vector<void*> blocks;
        solo_heap_.supply().stations.begin_move(solo);
        const unsigned size_class = size_class_of(max_slot_bytes);
        const SlabGrant slab = solo_heap_.supply().make_slab(solo, size_class, 0, 0);
        solo_heap_.supply().stations.end_move(solo);
        std::uint32_t returned = 0;
        own(solo_heap_.supply().slabs.reserve(solo, slab.slab, size_class, slots_a_page, returned), blocks);
        solo_heap_.supply().cursor_of(size_class, 0).value = Cursor::of(0, slab.slab + 1u).raw;
        return run(seed, [&](Env& env, unsigned warp) {
            if (warp == 0) {
                release(env, whole, take(env, whole, max_slot_bytes).first);
                return;
            }
            if (warp != 1 || env.lane() != 0) return;
            for (void* const block : blocks)
                release(env, 1u, block);
            (void)heap_.supply().reclaim(env);
        });
    }

private:
    static constexpr std::uint32_t slots_a_page = page_bytes / max_slot_bytes;
    static constexpr std::array<std::size_t, 3> sizes = {max_slot_bytes, max_slot_bytes / 2, page_bytes};
    static constexpr unsigned most_held = 3;

    static sim::Shape shape_of(const Scenario& scenario) {
        sim::Shape shape;
        shape.warp_count = scenario.warps;
        shape.warp_lanes = Lanes;
        shape.processor_count = scenario.processors;
        shape.step_limit = scenario.step_limit;
        return shape;
    }

    void begin(std::uint64_t seed) {
        layout_ = arena_.reset(scenario_);
        heap_ = Heap<Env>::over(arena_.base(), layout_);
        solo_heap_ = Heap<solo_env>::over(arena_.base(), layout_);
        ledger_ = Ledger(heap_.pages_base(), layout_.payload_bytes());
        draw_ = sim::Random(seed ^ 0x5eed);
    }
    template <class Body>
    sim::Outcome run(std::uint64_t seed, Body body) {
        sim::ScheduleSpec spec;
        spec.seed = seed;
        spec.policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
        spec.change_point_count = 1 + static_cast<unsigned>(seed / 2 % 3);
        spec.expected_step_count = 120u * scenario_.warps * scenario_.rounds;
        sim::Outcome outcome = simulation_.run(spec, [&](unsigned thread) {
            Env env(simulation_, thread);
            body(env, thread / Lanes);
        });
        if (!outcome) return outcome;
        if (std::string complaint = check_told(); !complaint.empty())
            outcome = {sim::Verdict::check_failed, complaint, outcome.step_count, outcome.digest};
        else if (complaint = check_rest(arena_.base(), layout_, ledger_, draw_); !complaint.empty())
            outcome = {sim::Verdict::check_failed, complaint, outcome.step_count, outcome.digest};
        return outcome;
    }

    /// With nothing live, reclaimers were told of all that is left: later calls, which tell of more, would hide it.
    std::string check_told() const {
        if (ledger_.live_count() != 0) return {};
        solo_env env;
        while (solo_heap_.supply().reclaim(env)) {
        }
        const std::uint32_t free_pages = solo_heap_.control(ControlCell::free_pages).value;
        return free_pages == layout_.page_count ? "" : "an empty slab was left that nobody is told of";
    }

    // Before the threads run.

    void* take_from_anywhere(std::size_t bytes) {
        solo_env env(draw_.below(scenario_.processors));
        Status status = Status::ok;
        void* const block = solo_heap_.allocate(env, 1u, bytes, min_slot_bytes, status);
        if (block != nullptr) (void)ledger_.take(block, bytes, min_slot_bytes);
        return block;
    }
    void give_from_anywhere(std::vector<void*>& blocks) {
        solo_env env(draw_.below(scenario_.processors));
        ledger_.give_back(blocks.back());
        (void)solo_heap_.deallocate(env, 1u, blocks.back());
        blocks.pop_back();
    }
    /// The blocks of a grant's slots, of a slab that was not freed into.
    void own(const SlabGrant& grant, std::vector<void*>& blocks) {
        for (std::uint32_t slot = grant.start; slot < grant.start + grant.count; ++slot) {
            solo_heap_.supply().slabs.bits_of(grant.slab)[0].value |= 1u << slot;
            blocks.push_back(heap_.pages_base() + grant.slab * std::size_t{page_bytes} +
                             slot * std::size_t{max_slot_bytes});
            (void)ledger_.take(blocks.back(), max_slot_bytes, min_slot_bytes);
        }
    }
    /// Takes all slots of a size that there are, some of the largest as whole slabs.
    std::vector<void*> fill(std::size_t bytes) {
        std::vector<void*> blocks;
        const std::uint32_t slots = slots_a_page << layout_.slab_log2_pages;
        while (layout_.slab_log2_pages != 0 && bytes == max_slot_bytes && draw_.below(3) != 0) {
            solo_env env(draw_.below(scenario_.processors));
            own(solo_heap_.supply().take_own_slab(env, size_class_of(max_slot_bytes), slots), blocks);
        }
        while (void* const block = take_from_anywhere(bytes))
            blocks.push_back(block);
        return blocks;
    }
    void shuffle(std::vector<void*>& blocks) {
        for (std::size_t left = blocks.size(); left > 1; --left)
            std::swap(blocks[left - 1], blocks[draw_.below(static_cast<std::uint32_t>(left))]);
    }

    // The threads' calls.

    std::pair<void*, Status> take(Env& env, LaneMask lanes, std::size_t bytes) {
        Status status = Status::ok;
        void* const block = heap_.allocate(env, lanes, bytes, min_slot_bytes, status);
        if (block == nullptr) return {block, status};
        if (std::string complaint = ledger_.take(block, bytes, min_slot_bytes); !complaint.empty())
            env.simulation().fail(std::move(complaint));
        return {block, status};
    }
    /// A block for each of the lanes: there is one.
    void* must_take(Env& env, LaneMask lanes, std::size_t bytes) {
        const auto [block, status] = take(env, lanes, bytes);
        if (block == nullptr)
            env.simulation().fail(std::to_string(bytes) + " B were there, and refused with status " +
                                  std::to_string(static_cast<unsigned>(status)));
        return block;
    }
    void release(Env& env, LaneMask lanes, void* block) {
        if (block != nullptr) ledger_.give_back(block);
        if (heap_.deallocate(env, lanes, block) != Status::ok) env.simulation().fail("a good free was refused");
    }

    Scenario scenario_;
    TinyArena& arena_;
    sim::Simulation simulation_;
    HeapLayout layout_;
    Heap<Env> heap_;
    Heap<solo_env> solo_heap_;
    Ledger ledger_{nullptr, 0};
    sim::Random draw_{0};
};

/// A program, and a heap that it aims at.
struct TightProgram {
    const char* name;
    Scenario scenario;
    sim::Outcome (TightHeap<4>::*run)(std::uint64_t seed);
};

/// Warps, lanes, pages, processors, log2 of the largest slab's pages, rounds.
inline constexpr TightProgram tight_programs[] = {
    {"one slot left", {2, 4, 2, 1, 0, 3}, &TightHeap<4>::one_slot_left},
    {"one slot left, two processors", {3, 4, 3, 2, 0, 3}, &TightHeap<4>::one_slot_left},
    {"one slot left, more processors than neighbors", {3, 4, 6, 12, 0, 3}, &TightHeap<4>::one_slot_left},
    {"a slot for each lane left", {2, 4, 1, 1, 0, 2}, &TightHeap<4>::few_slots_left},
    {"a slot for each lane left, two processors", {3, 4, 2, 2, 0, 2}, &TightHeap<4>::few_slots_left},
    {"one slot left, three processors", {3, 4, 3, 3, 0, 4}, &TightHeap<4>::one_slot_left},
    {"two pages for two", {2, 4, 2, 2, 0, 3}, &TightHeap<4>::one_page_each},
    {"three pages for three", {3, 4, 3, 2, 0, 3}, &TightHeap<4>::one_page_each},
    {"groups are refused", {3, 4, 8, 2, 2, 2}, &TightHeap<4>::refused},
    {"a shared slab is set aside", {2, 4, 7, 1, 3, 1}, &TightHeap<4>::set_aside},
    {"groups fill a slab", {3, 4, 6, 2, 1, 8}, &TightHeap<4>::groups},
    {"two groups to a slab", {3, 4, 16, 2, 2, 8}, &TightHeap<4>::groups},
    {"too few pages to share", {3, 4, 7, 1, 3, 8}, &TightHeap<4>::groups},
    {"pages in plenty", {2, 4, 40, 1, 3, 8}, &TightHeap<4>::groups},
};

} // namespace cuda_zstd::test
