// SPDX-License-Identifier: MIT
// Random programs over a tiny heap, run in the simulator, and what must hold of each of them.
//
// Invariant: a scenario and a seed determine the program of every lane, the schedule and the trace. The arena lies at a
// fixed address, so that a trace shows the same pointers in each run.
#pragma once

#include "cuda_zstd/env/sim_env.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace cuda_zstd::test {

struct Scenario {
    unsigned warps = 2;
    unsigned lanes = 2;
    std::uint32_t pages = 4;
    unsigned processors = 1;
    unsigned slab_log2_pages = 0;
    /// Rounds of the program: each is an allocation, a free, a hand-over to another lane, or nothing.
    unsigned rounds = 6;
    sim::Shape::Processors processor_rule = sim::Shape::Processors::warp_bound;
    std::uint64_t step_limit = 3'000'000;
};

struct Tally {
    std::uint64_t allocations = 0;
    std::uint64_t full = 0;
    std::uint64_t contended = 0;
    std::uint64_t steps = 0;
};

/// An arena at a fixed address whose heap can be reset to new at the cost of clearing the metadata of a few pages.
class TinyArena {
public:
    TinyArena() {
        void* const wanted = reinterpret_cast<void*>(std::uintptr_t{1} << 45);
        memory_ = mmap(wanted, arena_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (memory_ == MAP_FAILED) throw std::runtime_error("the simulator's arena cannot be mapped at 2^45");
    }
    TinyArena(const TinyArena&) = delete;
    TinyArena& operator=(const TinyArena&) = delete;
    ~TinyArena() { munmap(memory_, arena_bytes); }

    /// A new heap of `pages` pages. The layout is that of a large arena, of which only the first pages exist: so a
    /// heap of a few pages can have several cursors and slabs of several pages.
    HeapLayout reset(const Scenario& scenario) {
        HeapLayout layout = HeapLayout::for_arena(arena_bytes, scenario.processors);
        if (layout.slab_log2_pages < scenario.slab_log2_pages || layout.page_count < scenario.pages)
            throw std::invalid_argument("the scenario does not fit the simulator's arena");
        layout.slab_log2_pages = scenario.slab_log2_pages;
        layout.page_count = scenario.pages;
        clear(layout.control_offset, control_bytes);
        clear(layout.stations_offset, layout.slab_words_offset - layout.stations_offset);
        clear(layout.slab_words_offset, scenario.pages * sizeof(std::uint64_t));
        clear(layout.next_offset, scenario.pages * sizeof(std::uint32_t));
        clear(layout.page_entries_offset, scenario.pages * sizeof(std::uint32_t));
        clear(layout.slot_bits_offset, std::size_t{scenario.pages} * slot_words_per_page * sizeof(std::uint32_t));
        solo_env env;
        format_heap(env, base(), layout, 0, 1);
        return layout;
    }

    char* base() const { return static_cast<char*>(memory_); }

private:
    static constexpr std::size_t arena_bytes = std::size_t{1} << 30;
    void clear(std::size_t offset, std::size_t bytes) { std::memset(base() + offset, 0, bytes); }
    void* memory_;
};

/// Which blocks are live, kept beside the heap and believed instead of it.
class Ledger {
public:
    Ledger(const char* pages_base, std::size_t payload_bytes) : base_(pages_base), bytes_(payload_bytes) {}

    /// Empty if the block may be handed out, else what is wrong with it.
    std::string take(const void* block, std::size_t bytes, std::uint32_t alignment) {
        const char* const at = static_cast<const char*>(block);
        if (at < base_ || at + bytes > base_ + bytes_) return "a block lies outside the heap";
        const auto offset = static_cast<std::size_t>(at - base_);
        if (offset % alignment != 0) return "a block is not aligned";
        const auto after = live_.lower_bound(offset);
        if (after != live_.end() && after->first < offset + bytes) return "a block overlaps a live one behind it";
        if (after != live_.begin() && std::prev(after)->first + std::prev(after)->second > offset)
            return "a block overlaps a live one before it";
        live_.emplace(offset, bytes);
        return {};
    }
    void give_back(const void* block) {
        live_.erase(static_cast<std::size_t>(static_cast<const char*>(block) - base_));
    }
    std::size_t live_count() const { return live_.size(); }
    const std::map<std::size_t, std::size_t>& live() const { return live_; }

private:
    const char* base_;
    std::size_t bytes_;
    std::map<std::size_t, std::size_t> live_; ///< offset -> bytes
};

/// What a lane asks for: drawn from one of several mixtures, the mixture from the seed.
inline std::size_t draw_bytes(sim::Random& random, unsigned mixture) {
    static constexpr std::array<std::array<std::uint32_t, 4>, 8> mixtures = {{
        {32768, 32768, 32768, 32768},   // two slots a page
        {20480, 20480, 32768, 16384},   // 3, 2 and 4 slots
        {8192, 16384, 65536, 65536},    // slots against runs of pages
        {64, 1024, 8192, 32768},        //
        {65536, 131072, 196608, 40000}, // runs only
        {16, 48, 2048, 65536},          //
        {16384, 16384, 16384, 65536},   // one class, now and then a page
        {24576, 28672, 32768, 131072},  // a slab for nearly every block
    }};
    return mixtures[mixture % mixtures.size()][random.below(4)];
}

/// The heap at rest, with the blocks of the ledger live: every count must agree with every bit. Empty if so.
std::string audit_at_rest(char* arena, const HeapLayout& layout, const Ledger& ledger);
/// At rest: whether a request for `bytes` could be served from free slots, empty slabs and free pages.
bool could_serve(char* arena, const HeapLayout& layout, std::size_t bytes);

/// A program of random rounds for each lane. `Env` is sim_env or a faulty variant of it.
template <class Env>
class HeapProgram {
public:
    HeapProgram(const Scenario& scenario, TinyArena& arena)
        : scenario_(scenario), arena_(arena), simulation_(shape_of(scenario)) {}

    /// Runs program and schedule of the seed; the outcome's message says which of the properties failed. With
    /// Policy::bytes the schedule is `bytes`.
    sim::Outcome run(std::uint64_t seed, sim::Policy policy,
                     sim::Simulation::Tracing tracing = sim::Simulation::Tracing::off,
                     std::span<const std::uint8_t> bytes = {}) {
        layout_ = arena_.reset(scenario_);
        heap_ = Heap<Env>::over(arena_.base(), layout_);
        name_cells();
        Ledger ledger(heap_.pages_base(), layout_.payload_bytes());
        ledger_ = &ledger;
        mailbox_.assign(std::size_t{scenario_.warps} * scenario_.lanes, {});
        sim::Random draw(seed ^ 0x5eed);
        mixture_ = static_cast<unsigned>(draw.next() % 8);
        keep_percent_ = draw.below(3) == 0 ? 30 : 0;
        most_held_ = 1 + draw.below(8);
        pressure_.reset(mailbox_.size());
        sim::ScheduleSpec spec;
        spec.policy = policy;
        spec.seed = seed;
        spec.bytes = bytes;
        spec.expected_step_count = static_cast<std::uint32_t>(60u * scenario_.rounds * mailbox_.size());
        sim::Outcome outcome = simulation_.run(
            spec, [&](unsigned thread) { lane_program(thread, seed); }, tracing);
        tally_.steps += outcome.step_count;
        if (outcome) {
            const std::string complaint = check_at_rest(draw);
            if (!complaint.empty())
                outcome = {sim::Verdict::check_failed, complaint, outcome.step_count, outcome.digest};
        }
        return outcome;
    }

    std::string trace() const { return simulation_.trace(); }
    const Tally& tally() const { return tally_; }

private:
    struct Held {
        void* block = nullptr;
        std::size_t bytes = 0;
    };

    /// The most pages that can have been in use since a call began: each live block may pin a page of its own or
    /// its run, and each call that is under way two more.
    struct Pressure {
        unsigned live_pages = 0;

        void reset(std::size_t threads) {
            live_pages = 0;
            calls_ = 0;
            peaks_.assign(threads, 0);
            inside_.assign(threads, false);
        }
        void enter(unsigned thread) {
            ++calls_;
            inside_[thread] = true;
            peaks_[thread] = 0;
            note();
        }
        unsigned leave(unsigned thread) {
            note();
            --calls_;
            inside_[thread] = false;
            return peaks_[thread];
        }

    private:
        void note() {
            for (std::size_t thread = 0; thread < peaks_.size(); ++thread)
                if (inside_[thread]) peaks_[thread] = std::max(peaks_[thread], live_pages + 2 * calls_);
        }
        unsigned calls_ = 0;
        std::vector<unsigned> peaks_;
        std::vector<char> inside_;
    };

    static unsigned pages_of(std::size_t bytes) {
        return bytes <= max_slot_bytes ? 1u : static_cast<unsigned>((bytes + page_bytes - 1) >> page_shift);
    }

    static sim::Shape shape_of(const Scenario& scenario) {
        sim::Shape shape;
        shape.warp_count = scenario.warps;
        shape.warp_lanes = scenario.lanes;
        shape.processor_count = scenario.processors;
        shape.processors = scenario.processor_rule;
        shape.step_limit = scenario.step_limit;
        return shape;
    }

    void lane_program(unsigned thread, std::uint64_t seed) {
        Env env(simulation_, thread);
        sim::Random own(seed * 0x9e37 + thread + 1);
        // The lanes of a warp mostly do the same kind of thing in the same round, as a kernel would.
        sim::Random shared(seed * 0x9e37 + 0xabcd0000u + thread / scenario_.lanes);
        std::array<Held, 8> held;
        std::size_t held_count = 0;
        for (unsigned round = 0; round < scenario_.rounds; ++round) {
            const unsigned action = shared.below(100);
            const bool deviates = own.below(8) == 0;
            const unsigned mine = deviates ? own.below(100) : action;
            if (mine < 55 && held_count < most_held_) {
                allocate(env, own, held, held_count);
            } else if (mine < 85) {
                if (held_count != 0) release(env, held[--held_count]);
            } else if (mine < 95) {
                hand_over(env, own, held, held_count);
            } else {
                misuse(env, own, held_count != 0 ? held[held_count - 1] : Held{});
            }
        }
        while (held_count != 0) {
            --held_count;
            if (own.below(100) >= keep_percent_) release(env, held[held_count]);
        }
        Held& last = mailbox_[thread];
        if (last.block != nullptr) {
            const Held block = last;
            last = {};
            release(env, block);
        }
    }

    void allocate(Env& env, sim::Random& own, std::array<Held, 8>& held, std::size_t& held_count) {
        const std::size_t bytes = draw_bytes(own, mixture_);
        const std::uint32_t alignment = own.below(4) == 0 ? 16u << own.below(9) : 16u;
        Status status = Status::ok;
        pressure_.enter(env.thread());
        void* const block = heap_.allocate(env, env.converged(), bytes, alignment, status);
        if (block != nullptr) pressure_.live_pages += pages_of(bytes);
        const unsigned peak_pages = pressure_.leave(env.thread());
        ++tally_.allocations;
        if (block == nullptr) {
            if (status == Status::ok) simulation_.fail("null without a reason");
            if ((status == Status::invalid) != (bytes > layout_.payload_bytes()))
                simulation_.fail("invalid is for what no heap of this size can serve, and for nothing else");
            if (status == Status::invalid) return;
            (status == Status::full ? tally_.full : tally_.contended)++;
            if (status == Status::full && bytes <= page_bytes && scenario_.slab_log2_pages == 0 &&
                peak_pages <= scenario_.pages)
                simulation_.fail("full, although at no moment of the call more than " + std::to_string(peak_pages) +
                                 " pages can have been in use");
            return;
        }
        if (status != Status::ok) simulation_.fail("a block came with a failure status");
        simulation_.note([&] { return "got " + name_of_block(block) + ", " + std::to_string(bytes) + " B"; });
        std::string complaint = ledger_->take(block, bytes, alignment);
        if (!complaint.empty())
            simulation_.fail(std::move(complaint) + ": " + name_of_block(block) + ", " + std::to_string(bytes) + " B");
        held[held_count++] = {block, bytes};
    }

    void release(Env& env, Held block) {
        simulation_.note([&] { return "frees " + name_of_block(block.block); });
        ledger_->give_back(block.block);
        pressure_.enter(env.thread());
        const Status status = heap_.deallocate(env, env.converged(), block.block);
        pressure_.live_pages -= pages_of(block.bytes);
        pressure_.leave(env.thread());
        if (status != Status::ok)
            simulation_.fail("a good free was refused with status " + std::to_string(static_cast<unsigned>(status)) +
                             ": " + name_of_block(block.block));
    }

    /// Frees what must not be freed, beside everything else: it is refused, and changes nothing.
    void misuse(Env& env, sim::Random& own, Held live) {
        char* const base = heap_.pages_base();
        char* pointer = own.below(2) == 0 ? base - 16 : base + layout_.payload_bytes();
        Status expected = Status::foreign;
        if (live.block != nullptr && own.below(2) == 0) {
            pointer = static_cast<char*>(live.block) + 1 + own.below(static_cast<unsigned>(live.bytes - 1));
            expected = Status::interior;
        }
        const Status status = heap_.deallocate(env, env.converged(), pointer);
        // The inner pages of a run are not told from free ones.
        const bool is_in_run = expected == Status::interior && live.bytes > page_bytes;
        if (status != expected && !(is_in_run && status == Status::double_free))
            simulation_.fail("a bad free got status " + std::to_string(static_cast<unsigned>(status)) + " instead of " +
                             std::to_string(static_cast<unsigned>(expected)));
        if (live.block != nullptr && heap_.usable_size(env, live.block) < live.bytes)
            simulation_.fail("the usable size of a live block is less than what was asked for");
    }

    /// Leaves a block for another lane, and frees what that lane finds left for itself.
    void hand_over(Env& env, sim::Random& own, std::array<Held, 8>& held, std::size_t& held_count) {
        const unsigned to = own.below(static_cast<unsigned>(mailbox_.size()));
        Held taken = {};
        if (held_count != 0) {
            taken = mailbox_[to];
            mailbox_[to] = held[--held_count];
        }
        if (taken.block != nullptr) release(env, taken);
    }

    std::string check_at_rest(sim::Random& draw) {
        std::string complaint = audit_at_rest(arena_.base(), layout_, *ledger_);
        if (!complaint.empty()) return complaint;
        // Blocks left live: whoever is refused now must be refused for a reason.
        const auto solo = Heap<solo_env>::over(arena_.base(), layout_);
        solo_env env;
        for (unsigned attempt = 0; attempt < 6; ++attempt) {
            const std::size_t bytes = draw_bytes(draw, draw.below(8));
            const bool possible = could_serve(arena_.base(), layout_, bytes);
            Status status = Status::ok;
            void* const block = solo.allocate(env, 1, bytes, 16, status);
            const Status refusal = bytes > layout_.payload_bytes() ? Status::invalid : Status::full;
            if (block == nullptr && status != refusal)
                return "at rest, " + std::to_string(bytes) + " B was refused with status " +
                       std::to_string(static_cast<unsigned>(status));
            if ((block != nullptr) != possible)
                return "at rest, " + std::to_string(bytes) + " B " + (possible ? "could" : "could not") +
                       " be served, and the heap said otherwise";
            if (block == nullptr) continue;
            complaint = ledger_->take(block, bytes, 16);
            if (!complaint.empty()) return "at rest: " + complaint;
        }
        complaint = audit_at_rest(arena_.base(), layout_, *ledger_);
        if (!complaint.empty()) return "after allocations at rest: " + complaint;
        while (ledger_->live_count() != 0) {
            void* const block = heap_.pages_base() + ledger_->live().begin()->first;
            ledger_->give_back(block);
            if (solo.deallocate(env, 1, block) != Status::ok) return "at rest, a good free was refused";
            if (solo.deallocate(env, 1, block) != Status::double_free) return "at rest, a double free was not told";
        }
        while (solo.supply().reclaim(env)) {
        }
        complaint = audit_at_rest(arena_.base(), layout_, *ledger_);
        if (!complaint.empty()) return "after all was freed: " + complaint;
        if (solo.control(ControlCell::free_pages).value != layout_.page_count)
            return "all was freed and reclaimed, but only " +
                   std::to_string(solo.control(ControlCell::free_pages).value) + " of " +
                   std::to_string(layout_.page_count) + " pages are free";
        return {};
    }

    std::string name_of_block(const void* block) const {
        const auto offset = static_cast<std::size_t>(static_cast<const char*>(block) - heap_.pages_base());
        return "page " + std::to_string(offset >> page_shift) + " + " + std::to_string(offset & (page_bytes - 1));
    }

    void name_cells() {
        sim::CellNames& names = simulation_.names();
        char* const base = arena_.base();
        names.clear();
        static constexpr const char* control_names[] = {"free_pages", "least_free_pages", "became_empty", "reclaimed",
                                                        "epoch",      "failures"};
        for (std::size_t i = 0; i < std::size(control_names); ++i)
            names.add(control_names[i], base + layout_.control_offset + i * 128, 1, 4);
        for (unsigned size_class = 0; size_class < size_class_count; ++size_class) {
            const std::string slot = std::to_string(slot_bytes_of(size_class));
            char* const cells =
                base + layout_.stations_offset + std::size_t{size_class} * layout_.stations * station_bytes;
            names.add("cursor<" + slot + ">", cells, layout_.stations, station_bytes);
            names.add("list<" + slot + ">", cells + station_bytes / 2, layout_.stations, station_bytes);
        }
        names.add("slab", base + layout_.slab_words_offset, layout_.page_count, 8);
        names.add("next", base + layout_.next_offset, layout_.page_count, 4);
        names.add("entry", base + layout_.page_entries_offset, layout_.page_count, 4);
        names.add("page_bits", base + layout_.page_bits_offset, layout_.page_words(), 4);
        names.add("slot_bits", base + layout_.slot_bits_offset, std::size_t{layout_.page_count} * slot_words_per_page,
                  4);
    }

    Scenario scenario_;
    TinyArena& arena_;
    sim::Simulation simulation_;
    HeapLayout layout_;
    Heap<Env> heap_;
    Ledger* ledger_ = nullptr;
    std::vector<Held> mailbox_; ///< plain: the simulator switches at heap operations only
    unsigned mixture_ = 0;
    unsigned keep_percent_ = 0;
    std::size_t most_held_ = 8; ///< blocks that a lane keeps
    Pressure pressure_;
    Tally tally_;
};

} // namespace cuda_zstd::test
