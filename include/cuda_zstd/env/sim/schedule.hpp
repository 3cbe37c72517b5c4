// SPDX-License-Identifier: MIT
// Which lane goes on: the simulator's only source of choice.
// Invariant: the decisions are a function of the specification (policy, seed, bytes) and of the questions asked,
// and of nothing else, so that a schedule replays exactly.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace cuda_zstd::sim {

/// How schedules are drawn.
enum class Policy : std::uint8_t {
    /// Each step goes to a lane drawn uniformly; the seed also draws how often the running lane simply goes on.
    random,
    /// Priorities with a few points of change (Burckhardt et al., "A randomized scheduler with probabilistic
    /// guarantees of finding bugs", ASPLOS 2010): few switches, each at an unlikely place.
    pct,
    /// Each decision takes one byte of the input: a fuzzer's input is the schedule. When it ends, the seed decides.
    bytes,
};

struct ScheduleSpec {
    Policy policy = Policy::random;
    std::uint64_t seed = 0;
    /// pct: how often a running lane is put behind all others, at steps drawn from [0, expected_step_count).
    unsigned change_point_count = 3;
    std::uint32_t expected_step_count = 2000;
    /// bytes: the decisions.
    std::span<const std::uint8_t> bytes = {};
};

/// Sebastiano Vigna's splitmix64: small, and good enough to draw schedules and test programs.
class Random {
public:
    explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
    std::uint64_t next() noexcept {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    /// A number in [0, bound); bound > 0.
    std::uint32_t below(std::uint32_t bound) noexcept {
        return static_cast<std::uint32_t>(((next() >> 32) * std::uint64_t{bound}) >> 32);
    }

private:
    std::uint64_t state_;
};

class Scheduler {
public:
    Scheduler(const ScheduleSpec& spec, unsigned warp_count, unsigned warp_lanes)
        : spec_(spec), random_(spec.seed * 0x2545f4914f6cdd1du + 0x9e37u) {
        static constexpr std::uint8_t stay_choices[] = {0, 0, 0, 50, 80, 95};
        stay_percent_ = stay_choices[random_.below(6)];
        static constexpr std::uint8_t join_choices[] = {100, 100, 90, 50, 10};
        join_percent_ = join_choices[random_.below(5)];
        static constexpr std::uint8_t patience_choices[] = {0, 50, 90, 99};
        patience_percent_ = patience_choices[random_.below(4)];
        if (spec_.policy == Policy::pct) draw_priorities(warp_count, warp_lanes);
    }

    static constexpr unsigned no_lane = ~0u;

    /// The lane that runs next, out of `ready` (never empty). `current` is the lane that can simply go on, or
    /// `no_lane`.
    unsigned pick(std::span<const std::uint16_t> ready, unsigned current, std::uint64_t step) noexcept {
        switch (spec_.policy) {
        case Policy::random:
            if (stay_percent_ != 0 && current != no_lane && random_.below(100) < stay_percent_) return current;
            return ready[random_.below(static_cast<std::uint32_t>(ready.size()))];
        case Policy::pct:
            return pick_by_priority(ready, current, step);
        case Policy::bytes:
            return ready[byte_below(ready.size())];
        }
        return ready[0];
    }

    /// Another lane than `current`, which only waits, if there is one.
    unsigned pick_other(std::span<const std::uint16_t> ready, unsigned current, std::uint64_t step) noexcept {
        if (spec_.policy == Policy::pct) {
            priority_[current] = --lowest_;
            return pick_by_priority(ready, current, step);
        }
        const unsigned picked = pick(ready, current, step);
        if (picked != current || ready.size() == 1) return picked;
        const auto at = std::find(ready.begin(), ready.end(), static_cast<std::uint16_t>(current)) - ready.begin();
        return ready[(static_cast<std::size_t>(at) + 1) % ready.size()];
    }

    /// Whether a further lane that waits in the same converged() call joins the one that was picked.
    bool joins() noexcept { return percent(join_percent_); }
    /// Whether a lane in converged() lets the lanes of its warp that still run come first.
    bool is_patient() noexcept { return percent(patience_percent_); }
    /// A number in [0, bound) that is part of the schedule.
    unsigned below(unsigned bound) noexcept {
        return spec_.policy == Policy::bytes ? byte_below(bound) : random_.below(bound);
    }

private:
    bool percent(unsigned chance) noexcept {
        if (spec_.policy == Policy::bytes) return byte_below(2) != 0;
        return random_.below(100) < chance;
    }

    unsigned byte_below(std::size_t bound) noexcept {
        if (next_byte_ >= spec_.bytes.size()) return random_.below(static_cast<std::uint32_t>(bound));
        return static_cast<unsigned>(spec_.bytes[next_byte_++] % bound);
    }

    void draw_priorities(unsigned warp_count, unsigned warp_lanes) {
        // Half of the schedules order whole warps, the other half each lane for itself.
        const bool by_warp = random_.below(2) == 0;
        priority_.resize(std::size_t{warp_count} * warp_lanes);
        for (unsigned warp = 0; warp < warp_count; ++warp) {
            const std::uint32_t of_warp = random_.below(1u << 20);
            for (unsigned lane = 0; lane < warp_lanes; ++lane)
                priority_[warp * warp_lanes + lane] =
                    static_cast<std::int32_t>(by_warp ? of_warp * 64 + random_.below(64) : random_.below(1u << 26));
        }
        for (unsigned i = 0; i < spec_.change_point_count; ++i)
            change_points_.push_back(random_.below(std::max(1u, spec_.expected_step_count)));
        std::sort(change_points_.begin(), change_points_.end());
    }

    unsigned pick_by_priority(std::span<const std::uint16_t> ready, unsigned current, std::uint64_t step) noexcept {
        if (current != no_lane) {
            if (next_change_ < change_points_.size() && step >= change_points_[next_change_]) {
                ++next_change_;
                priority_[current] = --lowest_;
            }
            // A lane that spins without pausing must not starve the one it waits for.
            if (step - burst_start_ > longest_burst) priority_[current] = --lowest_;
        }
        unsigned best = ready[0];
        for (const std::uint16_t lane : ready)
            if (priority_[lane] > priority_[best]) best = lane;
        if (best != current || step - burst_start_ > longest_burst) burst_start_ = step;
        return best;
    }

    static constexpr std::uint64_t longest_burst = 400;

    ScheduleSpec spec_;
    Random random_;
    std::uint8_t stay_percent_ = 0, join_percent_ = 0, patience_percent_ = 0;
    std::size_t next_byte_ = 0;
    std::vector<std::int32_t> priority_;
    std::vector<std::uint32_t> change_points_;
    std::size_t next_change_ = 0;
    std::int32_t lowest_ = 0;
    std::uint64_t burst_start_ = 0;
};

} // namespace cuda_zstd::sim
