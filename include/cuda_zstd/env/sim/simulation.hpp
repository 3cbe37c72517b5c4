// SPDX-License-Identifier: MIT
// The simulator: warps of lanes as fibers on one thread, of which a scheduler lets one go on at a time.
//
// Invariant: a lane gives the processor up only inside `step`, `arrive` and `converge`, which the environment calls
// before each atomic access and in each collective; between two of them a lane runs alone, so memory is sequentially
// consistent. A run ends when all lanes have returned, or with the first failure; the lanes that have
// not returned then are dropped where they stand, without unwinding.
#pragma once

#include "cuda_zstd/env/sim/fiber.hpp"
#include "cuda_zstd/env/sim/schedule.hpp"
#include "cuda_zstd/env/sim/trace.hpp"

#include <bit>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace cuda_zstd::sim {

/// What is simulated. At most 65,535 lanes.
struct Shape {
    unsigned warp_count = 2;
    unsigned warp_lanes = 2; ///< 1 to 32
    unsigned processor_count = 1;
    /// A run longer than this has failed: somebody waits for what never comes.
    std::uint64_t step_limit = 1'000'000;
    /// `warp_bound`: a warp stays on processor warp % count. `roaming`: any processor at each question.
    enum class Processors : std::uint8_t { warp_bound, roaming } processors = Processors::warp_bound;
};

enum class Verdict : std::uint8_t { passed, check_failed, deadlock, step_limit, misuse, exception };

/// What became of one schedule.
struct Outcome {
    Verdict verdict = Verdict::passed;
    std::string message = {}; ///< empty when passed
    std::uint64_t step_count = 0;
    std::uint64_t digest = 0; ///< over every operation and value: equal for equal schedules
    explicit operator bool() const noexcept { return verdict == Verdict::passed; }
};

class Simulation {
public:
    enum class Tracing : std::uint8_t { off, on };

    explicit Simulation(const Shape& shape)
        : shape_(shape), lanes_(std::size_t{shape.warp_count} * shape.warp_lanes), warps_(shape.warp_count),
          stacks_(lanes_.size()) {
        if (shape.warp_lanes < 1 || shape.warp_lanes > 32 || lanes_.empty() || lanes_.size() > 0xffff)
            throw std::invalid_argument("a simulation has 1 to 32 lanes a warp and 1 to 65,535 lanes");
    }

    /// Runs `body(thread)` once in every lane under the schedule `spec`.
    Outcome run(const ScheduleSpec& spec, const std::function<void(unsigned)>& body, Tracing tracing = Tracing::off);

    CellNames& names() noexcept { return names_; }
    const Shape& shape() const noexcept { return shape_; }
    /// The trace of the last run with tracing on.
    std::string trace(TraceOrder order = TraceOrder::by_time) const {
        return format_trace(events_, names_, shape_.warp_lanes, order);
    }

    // For environments and lane bodies, inside a run.

    /// Lets the scheduler choose who goes on; returns when it is the caller's turn.
    void step() {
        if (++steps_ > shape_.step_limit) [[unlikely]]
            stop(Verdict::step_limit, "the schedule exceeds " + std::to_string(shape_.step_limit) + " steps");
        resume(scheduler_->pick(ready_, current_, steps_));
    }
    /// As `step`, but another lane goes first if there is one.
    void pause(Site site);
    /// Tells the simulator of an access that was just made.
    void record(Op op, const void* cell, std::uint64_t before, std::uint64_t after, Site site) {
        mix(op, before, after);
        if (tracing_ == Tracing::on) [[unlikely]]
            events_.push_back({steps_, current_, op, cell, before, after, site});
    }
    /// A line of the trace that the test writes. `text()` is called only when a trace is kept.
    template <class Text>
    void note(Text&& text) {
        if (tracing_ == Tracing::on) events_.push_back({steps_, current_, Op::note, nullptr, 0, 0, Site{}, text()});
    }
    /// A collective of the lanes of `mask` (bits of the caller's warp): waits for them all, then returns the
    /// caller's result. `source` is the lane that shfl reads.
    std::uint64_t arrive(Op op, LaneMask mask, std::uint64_t value, unsigned source, Site site);
    /// converged(): a set of lanes of the warp that wait at the same site, drawn by the scheduler.
    LaneMask converge(Site site);
    /// Ends the run: the test's own assertion failed. Does not return, and unwinds nothing: what the lane owns is lost.
    [[noreturn]] void fail(std::string message) { stop(Verdict::check_failed, std::move(message)); }

    unsigned current() const noexcept { return current_; }
    std::uint64_t step_count() const noexcept { return steps_; }
    unsigned processor() {
        if (shape_.processors == Shape::Processors::roaming) return scheduler_->below(shape_.processor_count);
        return current_ / shape_.warp_lanes % shape_.processor_count;
    }

private:
    enum class State : std::uint8_t { ready, converging, waiting, done };
    struct Lane {
        Fiber fiber;
        State state = State::ready;
        Op op = Op::exit;
        std::uint16_t ready_index = 0;
        unsigned source = 0;
        LaneMask mask = 0;
        std::uint64_t value = 0;
        std::uint64_t result = 0;
        Site site = {};
    };
    /// A collective that some lanes of a warp wait in.
    struct Rendezvous {
        Op op;
        LaneMask mask;
        LaneMask arrived;
    };
    struct Warp {
        std::vector<Rendezvous> pending;
        LaneMask done = 0;
        LaneMask converging = 0;
        LaneMask running = 0; ///< lanes that are ready
    };

    static inline thread_local Simulation* running_ = nullptr;

    static void lane_main();
    void make_ready(unsigned thread);
    void block(unsigned thread, State state);
    void resume(unsigned picked);
    unsigned fire_converged(unsigned picked);
    void complete(Rendezvous rendezvous, unsigned warp);
    void check_arrival(const Rendezvous& mine, unsigned lane, const Warp& warp, Site site);
    void lane_returned();
    [[noreturn]] void stop(Verdict verdict, std::string&& message);
    std::string where(unsigned thread) const;
    std::string lane_name(unsigned thread) const {
        char name[32];
        std::snprintf(name, sizeof name, "w%u.l%u", thread / shape_.warp_lanes, thread % shape_.warp_lanes);
        return name;
    }
    void mix(Op op, std::uint64_t before, std::uint64_t after) noexcept {
        digest_ =
            (digest_ ^ (current_ + (static_cast<std::uint64_t>(op) << 20) + before * 3 + after)) * 0x9e3779b97f4a7c15u;
        digest_ ^= digest_ >> 29;
    }

    Shape shape_;
    std::vector<Lane> lanes_;
    std::vector<Warp> warps_;
    FiberStacks stacks_;
    Fiber home_;
    CellNames names_;

    std::optional<Scheduler> scheduler_;
    const std::function<void(unsigned)>* body_ = nullptr;
    std::vector<std::uint16_t> ready_;
    unsigned current_ = 0;
    std::size_t done_count_ = 0;
    std::uint64_t steps_ = 0;
    std::uint64_t digest_ = 0;
    Outcome outcome_;
    Tracing tracing_ = Tracing::off;
    std::vector<Event> events_;
};

} // namespace cuda_zstd::sim

#include "cuda_zstd/env/sim/simulation.ipp"
