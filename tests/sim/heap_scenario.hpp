// SPDX-License-Identifier: MIT
// Random programs over a tiny heap, run in the simulator, and what must hold of each of them.
//
// Invariant: a scenario and a course (a seed, or bytes) determine the program of every lane, the schedule and the
// trace.
#pragma once

#include "cell_names.hpp"
#include "choices.hpp"
#include "ledger.hpp"
#include "pressure.hpp"
#include "rest_check.hpp"
#include "tiny_arena.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cuda_zstd::test {

struct Tally {
    std::uint64_t allocations = 0;
    std::uint64_t full = 0;
    std::uint64_t contended = 0;
    std::uint64_t steps = 0;
};

/// One run of a program: its decisions and its schedule.
struct Course {
    std::uint64_t seed = 1;
    sim::Policy policy = sim::Policy::random;
    std::span<const std::uint8_t> schedule = {}; ///< with Policy::bytes
    std::span<const std::uint8_t> calls = {};    ///< before the seed decides on the calls
};

/// A program of random rounds for each lane. `Env` is sim_env or a faulty variant of it.
template <class Env>
class HeapProgram {
public:
    HeapProgram(const Scenario& scenario, TinyArena& arena)
        : scenario_(scenario), arena_(arena), simulation_(shape_of(scenario)) {}

    /// Runs the course; the outcome's message says which of the properties failed.
    sim::Outcome run(const Course& course, sim::Simulation::Tracing tracing = sim::Simulation::Tracing::off) {
        layout_ = arena_.reset(scenario_);
        heap_ = Heap<Env>::over(arena_.base(), layout_);
        if (tracing == sim::Simulation::Tracing::on) name_heap_cells(simulation_.names(), arena_.base(), layout_);
        Ledger ledger(heap_.pages_base(), layout_.payload_bytes());
        ledger_ = &ledger;
        mailbox_.assign(std::size_t{scenario_.warps} * scenario_.lanes, {});
        call_bytes_ = {course.calls, 0};
        Choices draw(course.seed ^ 0x5eed, call_bytes_);
        mixture_ = draw.below(mixture_count);
        keep_percent_ = draw.below(3) == 0 ? 30 : 0;
        most_held_ = mixture_ == small_blocks ? most_blocks / (scenario_.lanes > 4 ? 8 : 1) : 1 + draw.below(8);
        opens_full_ = draw.below(3) == 0;
        static constexpr unsigned shares[] = {55, 40, 50, 65};
        allocate_percent_ = shares[draw.below(4)];
        pressure_.reset(mailbox_.size());
        sim::ScheduleSpec spec;
        spec.policy = course.policy;
        spec.seed = course.seed;
        spec.bytes = course.schedule;
        spec.change_point_count = 1 + static_cast<unsigned>(course.seed / 2 % 6);
        spec.expected_step_count = static_cast<std::uint32_t>(16u * scenario_.rounds * mailbox_.size());
        sim::Outcome outcome = simulation_.run(
            spec, [&](unsigned thread) { lane_program(thread, course.seed); }, tracing);
        tally_.steps += outcome.step_count;
        if (outcome) {
            sim::Random at_rest(course.seed ^ 0xe57);
            const std::string complaint = check_rest(arena_.base(), layout_, ledger, at_rest);
            if (!complaint.empty())
                outcome = {sim::Verdict::check_failed, complaint, outcome.step_count, outcome.digest};
        }
        return outcome;
    }

    std::string trace(sim::TraceOrder order = sim::TraceOrder::by_time) const { return simulation_.trace(order); }
    const Tally& tally() const { return tally_; }

private:
    static constexpr std::size_t most_blocks = 24;
    struct Held {
        void* block = nullptr;
        std::size_t bytes = 0;
    };

    static unsigned pages_of(std::size_t bytes) {
        return bytes <= max_slot_bytes ? 1u : static_cast<unsigned>((bytes + page_bytes - 1) >> page_shift);
    }

    /// Pages that blocks can be in, were each alone in its page; the first mixture has two a page, of one class.
    unsigned most_pages() const { return scenario_.pages * (mixture_ == 0 ? page_bytes / max_slot_bytes : 1); }

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
        Choices own(seed * 0x9e37 + thread + 1, call_bytes_);
        // The lanes of a warp mostly do the same kind of thing in the same round, as a kernel would.
        sim::Random shared(seed * 0x9e37 + 0xabcd0000u + thread / scenario_.lanes);
        std::array<Held, most_blocks> held;
        std::size_t held_count = 0;
        if (opens_full_) open_full(env, own, held, held_count);
        for (unsigned round = 0; round < scenario_.rounds; ++round) {
            const unsigned action = shared.below(100);
            const bool deviates = own.has_bytes() || own.below(8) == 0;
            const unsigned mine = deviates ? own.below(100) : action;
            if (mine < allocate_percent_ && held_count < most_held_) {
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

    /// As many blocks as the lane may hold, of which it frees every second one: so that lists begin with several slabs.
    void open_full(Env& env, Choices& own, std::array<Held, most_blocks>& held, std::size_t& held_count) {
        for (std::size_t attempt = 0; attempt < most_held_; ++attempt)
            allocate(env, own, held, held_count);
        std::size_t kept = 0;
        for (std::size_t index = 0; index < held_count; ++index) {
            if (index % 2 == 0)
                held[kept++] = held[index];
            else
                release(env, held[index]);
        }
        held_count = kept;
    }

    void allocate(Env& env, Choices& own, std::array<Held, most_blocks>& held, std::size_t& held_count) {
        const std::size_t bytes = draw_bytes(own, mixture_);
        const std::uint32_t alignment = own.below(4) == 0 ? 16u << own.below(9) : 16u;
        Status status = Status::ok;
        pressure_.begin_allocation(env.thread(), pages_of(bytes));
        void* const block = heap_.allocate(env, env.converged(), bytes, alignment, status);
        const unsigned peak_pages = pressure_.end_allocation(env.thread(), pages_of(bytes), block);
        ++tally_.allocations;
        if (block == nullptr) {
            if (status == Status::ok) simulation_.fail("null without a reason");
            if ((status == Status::invalid) != (bytes > layout_.payload_bytes()))
                simulation_.fail("invalid is for what no heap of this size can serve, and for nothing else");
            if (status == Status::invalid) return;
            (status == Status::full ? tally_.full : tally_.contended)++;
            if (status == Status::full && bytes <= page_bytes && scenario_.slab_log2_pages == 0 &&
                peak_pages <= most_pages())
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
        const Status status = heap_.deallocate(env, env.converged(), block.block);
        pressure_.end_free(pages_of(block.bytes));
        if (status != Status::ok)
            simulation_.fail("a good free was refused with status " + std::to_string(static_cast<unsigned>(status)) +
                             ": " + name_of_block(block.block));
    }

    /// Frees what must not be freed, beside everything else: it is refused, and changes nothing.
    void misuse(Env& env, Choices& own, Held live) {
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
    void hand_over(Env& env, Choices& own, std::array<Held, most_blocks>& held, std::size_t& held_count) {
        const unsigned to = own.below(static_cast<unsigned>(mailbox_.size()));
        Held taken = {};
        if (held_count != 0) {
            taken = mailbox_[to];
            mailbox_[to] = held[--held_count];
        }
        if (taken.block != nullptr) release(env, taken);
    }

    std::string name_of_block(const void* block) const {
        const auto offset = static_cast<std::size_t>(static_cast<const char*>(block) - heap_.pages_base());
        return "page " + std::to_string(offset >> page_shift) + " + " + std::to_string(offset & (page_bytes - 1));
    }

    Scenario scenario_;
    TinyArena& arena_;
    sim::Simulation simulation_;
    HeapLayout layout_;
    Heap<Env> heap_;
    Ledger* ledger_ = nullptr;
    std::vector<Held> mailbox_; ///< plain: the simulator switches at heap operations only
    ChoiceBytes call_bytes_;
    unsigned mixture_ = 0;
    unsigned keep_percent_ = 0;
    std::size_t most_held_ = 8; ///< blocks that a lane keeps
    bool opens_full_ = false;
    unsigned allocate_percent_ = 55;
    Pressure pressure_;
    Tally tally_;
};

} // namespace cuda_zstd::test
