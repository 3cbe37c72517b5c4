// SPDX-License-Identifier: MIT
// The members of Simulation: scheduling, collectives and failures. Included by simulation.hpp only.
#pragma once

namespace cuda_zstd::sim {

inline Outcome Simulation::run(const ScheduleSpec& spec, const std::function<void(unsigned)>& body, Tracing tracing) {
    scheduler_.emplace(spec, shape_.warp_count, shape_.warp_lanes);
    body_ = &body;
    tracing_ = tracing;
    events_.clear();
    ready_.clear();
    steps_ = 0;
    done_count_ = 0;
    digest_ = 0;
    outcome_ = {};
    for (Warp& warp : warps_)
        warp = {};
    for (unsigned thread = 0; thread < lanes_.size(); ++thread) {
        lanes_[thread].fiber.reset(stacks_.low(thread), stacks_.bytes(thread), &Simulation::lane_main);
        make_ready(thread);
    }
    Simulation* const outer = running_;
    running_ = this;
    current_ = scheduler_->pick(ready_, Scheduler::no_lane, 0);
    Fiber::switch_to(home_, lanes_[current_].fiber);
    running_ = outer;
    outcome_.step_count = steps_;
    outcome_.digest = digest_;
    return outcome_;
}

inline void Simulation::lane_main() {
    Simulation& self = *running_;
    Fiber::entered(self.home_);
    std::string thrown;
    try {
        (*self.body_)(self.current_);
    } catch (const std::exception& error) {
        thrown = std::string("a lane threw: ") + error.what();
    } catch (...) {
        thrown = "a lane threw something that is no std::exception";
    }
    if (!thrown.empty()) self.stop(Verdict::exception, std::move(thrown));
    self.lane_returned();
}

inline void Simulation::lane_returned() {
    record(Op::exit, nullptr, 0, 0, Site{});
    const unsigned warp_index = current_ / shape_.warp_lanes;
    Warp& warp = warps_[warp_index];
    const LaneMask bit = LaneMask{1} << (current_ % shape_.warp_lanes);
    for (const Rendezvous& rendezvous : warp.pending)
        if ((rendezvous.mask & bit) != 0)
            stop(Verdict::misuse,
                 lane_name(current_) + " returned while others of its warp wait for it in " + name_of(rendezvous.op));
    warp.done |= bit;
    block(current_, State::done);
    if (++done_count_ == lanes_.size()) Fiber::switch_to(lanes_[current_].fiber, home_);
    if (ready_.empty()) stop(Verdict::deadlock, "every lane that has not returned waits");
    resume(scheduler_->pick(ready_, Scheduler::no_lane, steps_));
    __builtin_unreachable();
}

inline void Simulation::make_ready(unsigned thread) {
    Lane& lane = lanes_[thread];
    Warp& warp = warps_[thread / shape_.warp_lanes];
    const LaneMask bit = LaneMask{1} << (thread % shape_.warp_lanes);
    if (lane.state != State::converging || (warp.converging & bit) == 0) {
        lane.ready_index = static_cast<std::uint16_t>(ready_.size());
        ready_.push_back(static_cast<std::uint16_t>(thread));
    }
    lane.state = State::ready;
    warp.converging &= ~bit;
    warp.running |= bit;
}

inline void Simulation::block(unsigned thread, State state) {
    Lane& lane = lanes_[thread];
    lane.state = state;
    warps_[thread / shape_.warp_lanes].running &= ~(LaneMask{1} << (thread % shape_.warp_lanes));
    const std::uint16_t last = ready_.back();
    ready_[lane.ready_index] = last;
    lanes_[last].ready_index = lane.ready_index;
    ready_.pop_back();
}

inline void Simulation::resume(unsigned picked) {
    if (lanes_[picked].state == State::converging) picked = fire_converged(picked);
    if (picked == current_) return;
    Fiber& from = lanes_[current_].fiber;
    current_ = picked;
    Fiber::switch_to(from, lanes_[picked].fiber);
}

inline void Simulation::pause(Site site) {
    record(Op::pause, nullptr, 0, 0, site);
    if (++steps_ > shape_.step_limit)
        stop(Verdict::step_limit, "the schedule exceeds " + std::to_string(shape_.step_limit) + " steps");
    resume(scheduler_->pick_other(ready_, current_, steps_));
}

inline LaneMask Simulation::converge(Site site) {
    Lane& lane = lanes_[current_];
    Warp& warp = warps_[current_ / shape_.warp_lanes];
    const LaneMask bit = LaneMask{1} << (current_ % shape_.warp_lanes);
    lane.state = State::converging; // stays in ready_: being picked is what ends the wait
    lane.op = Op::converged;
    lane.site = site;
    warp.converging |= bit;
    warp.running &= ~bit;
    if (++steps_ > shape_.step_limit)
        stop(Verdict::step_limit, "the schedule exceeds " + std::to_string(shape_.step_limit) + " steps");
    resume(scheduler_->pick(ready_, Scheduler::no_lane, steps_));
    const auto set = static_cast<LaneMask>(lane.result);
    record(Op::converged, nullptr, set, set, site);
    return set;
}

/// `picked` waits in converged(). Either a lane of its warp that still runs comes first, or the call returns, in
/// `picked` and in those lanes at the same site that the scheduler lets join.
inline unsigned Simulation::fire_converged(unsigned picked) {
    const unsigned first = picked / shape_.warp_lanes * shape_.warp_lanes;
    Warp& warp = warps_[picked / shape_.warp_lanes];
    if (warp.running != 0 && scheduler_->is_patient()) {
        unsigned skip = scheduler_->below(static_cast<unsigned>(std::popcount(warp.running)));
        LaneMask rest = warp.running;
        while (skip-- != 0)
            rest &= rest - 1;
        return first + static_cast<unsigned>(std::countr_zero(rest));
    }
    LaneMask set = LaneMask{1} << (picked - first);
    for (LaneMask rest = warp.converging & ~set; rest != 0; rest &= rest - 1) {
        const unsigned other = static_cast<unsigned>(std::countr_zero(rest));
        if (lanes_[first + other].site == lanes_[picked].site && scheduler_->joins()) set |= LaneMask{1} << other;
    }
    for (LaneMask rest = set; rest != 0; rest &= rest - 1) {
        const unsigned thread = first + static_cast<unsigned>(std::countr_zero(rest));
        lanes_[thread].result = set;
        make_ready(thread);
    }
    return picked;
}

inline void Simulation::check_arrival(const Rendezvous& mine, unsigned lane, const Warp& warp, Site site) {
    const auto call = [&] {
        char mask[16];
        std::snprintf(mask, sizeof mask, "%08x", mine.mask);
        return lane_name(current_) + " calls " + name_of(mine.op) + "(mask " + mask + ") at " + format_site(site);
    };
    const LaneMask bit = LaneMask{1} << lane;
    const LaneMask whole = shape_.warp_lanes == 32 ? ~LaneMask{0} : (LaneMask{1} << shape_.warp_lanes) - 1;
    if ((mine.mask & bit) == 0) stop(Verdict::misuse, call() + " without being in the mask");
    if ((mine.mask & ~whole) != 0) stop(Verdict::misuse, call() + " with lanes that the warp has not");
    if ((mine.mask & warp.done) != 0) stop(Verdict::misuse, call() + " but a lane of the mask has returned");
    for (const Rendezvous& other : warp.pending)
        if ((other.mask & bit) != 0 && (other.arrived & mine.mask) != 0 &&
            (other.op != mine.op || other.mask != mine.mask))
            stop(Verdict::misuse,
                 call() + " while lanes of the mask wait for it in another collective, " + name_of(other.op));
}

inline std::uint64_t Simulation::arrive(Op op, LaneMask mask, std::uint64_t value, unsigned source, Site site) {
    step();
    const unsigned warp_index = current_ / shape_.warp_lanes;
    const unsigned lane_index = current_ % shape_.warp_lanes;
    Warp& warp = warps_[warp_index];
    Lane& lane = lanes_[current_];
    const LaneMask bit = LaneMask{1} << lane_index;
    check_arrival({op, mask, bit}, lane_index, warp, site);
    if (op == Op::shfl && (source >= 32 || (mask >> source & 1u) == 0)) {
        std::string report = lane_name(current_) + " reads lane " + std::to_string(source) +
                             " by shfl, which is not in the mask, at " + format_site(site);
        stop(Verdict::misuse, std::move(report));
    }
    lane.op = op;
    lane.mask = mask;
    lane.value = value;
    lane.source = source;
    lane.site = site;
    std::size_t at = 0;
    while (at < warp.pending.size() && (warp.pending[at].op != op || warp.pending[at].mask != mask))
        ++at;
    if (at == warp.pending.size()) warp.pending.push_back({op, mask, 0});
    warp.pending[at].arrived |= bit;
    if (warp.pending[at].arrived == mask) {
        const Rendezvous full = warp.pending[at];
        warp.pending[at] = warp.pending.back();
        warp.pending.pop_back();
        complete(full, warp_index);
    } else {
        block(current_, State::waiting);
        if (ready_.empty()) stop(Verdict::deadlock, "every lane that has not returned waits");
        resume(scheduler_->pick(ready_, Scheduler::no_lane, steps_));
    }
    record(op, nullptr, mask, lane.result, site);
    return lane.result;
}

inline void Simulation::complete(Rendezvous rendezvous, unsigned warp) {
    Lane* const lanes = &lanes_[std::size_t{warp} * shape_.warp_lanes];
    const auto for_each = [&](auto&& visit) {
        for (LaneMask rest = rendezvous.mask; rest != 0; rest &= rest - 1)
            visit(static_cast<unsigned>(std::countr_zero(rest)));
    };
    std::uint64_t folded = 0;
    switch (rendezvous.op) {
    case Op::match_any:
        for (LaneMask rest = rendezvous.mask; rest != 0;) {
            const std::uint64_t value = lanes[std::countr_zero(rest)].value;
            LaneMask equal = 0;
            for (LaneMask others = rest; others != 0; others &= others - 1)
                if (lanes[std::countr_zero(others)].value == value) equal |= others & -others;
            for (LaneMask same = equal; same != 0; same &= same - 1)
                lanes[std::countr_zero(same)].result = equal;
            rest &= ~equal;
        }
        break;
    case Op::ballot:
        for_each([&](unsigned i) { folded |= std::uint64_t{lanes[i].value != 0} << i; });
        for_each([&](unsigned i) { lanes[i].result = folded; });
        break;
    case Op::shfl:
        for_each([&](unsigned i) { lanes[i].result = lanes[lanes[i].source].value; });
        break;
    case Op::reduce_or:
        for_each([&](unsigned i) { folded |= lanes[i].value; });
        for_each([&](unsigned i) { lanes[i].result = folded; });
        break;
    case Op::warp_sum:
        for_each([&](unsigned i) { folded += lanes[i].value; });
        for_each([&](unsigned i) { lanes[i].result = static_cast<std::uint32_t>(folded); });
        break;
    case Op::warp_exclusive_sum:
        for_each([&](unsigned i) {
            lanes[i].result = static_cast<std::uint32_t>(folded);
            folded += lanes[i].value;
        });
        break;
    case Op::warp_max:
        for_each([&](unsigned i) { folded = std::max(folded, lanes[i].value); });
        for_each([&](unsigned i) { lanes[i].result = folded; });
        break;
    default:
        for_each([&](unsigned i) { lanes[i].result = 0; });
        break;
    }
    const unsigned first = warp * shape_.warp_lanes;
    for_each([&](unsigned i) {
        if (first + i != current_) make_ready(first + i);
    });
}

inline std::string Simulation::where(unsigned thread) const {
    const Lane& lane = lanes_[thread];
    std::string text = lane_name(thread);
    char mask[32];
    std::snprintf(mask, sizeof mask, "(mask %08x)", lane.mask);
    switch (lane.state) {
    case State::ready:
        return text + (thread == current_ ? " runs" : " is ready");
    case State::converging:
        return text + " is in converged at " + format_site(lane.site);
    case State::waiting:
        return text + " waits in " + name_of(lane.op) + mask + " at " + format_site(lane.site);
    case State::done:
        break;
    }
    return text + " has returned";
}

/// The stack is left as it is, so nothing on it may own memory when the switch is made: the message is emptied first.
inline void Simulation::stop(Verdict verdict, std::string&& message) {
    outcome_.verdict = verdict;
    outcome_.message = lane_name(current_) + ", step " + std::to_string(steps_) + ": " + message + "\n";
    std::string().swap(message);
    for (unsigned thread = 0; thread < lanes_.size(); ++thread)
        if (lanes_[thread].state != State::done) outcome_.message += "  " + where(thread) + "\n";
    Fiber::switch_to(lanes_[current_].fiber, home_);
    __builtin_unreachable();
}

} // namespace cuda_zstd::sim
