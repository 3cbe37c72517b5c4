// SPDX-License-Identifier: MIT
// A model of the time that a GPU's lanes take for their accesses to memory, on one thread of the host.
//
// Invariant: every lane has a clock, and the lane with the earliest one runs; so accesses happen in the order of the
// modelled time, and a run is determined by its program and its constants. Lanes that wait in a collective go on at the
// time of the last of them. Arithmetic takes no time, and lanes of a warp that went apart go on side by side, which on
// a GPU they do not: the model is for finding what a program waits for, not for foretelling what it takes.
#pragma once

#include "cuda_zstd/env/sim/fiber.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <queue>
#include <source_location>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace bench {

/// What an access takes, in us. The constants are those with which the model comes nearest to an H100 under load.
struct AccessTimes {
    double load = 0.5;
    double atomic = 0.6;  ///< there and back
    double store = 0.01;  ///< nobody waits for it
    double release = 0.8; ///< more, for what has to have arrived before
    double acquire = 0.1; ///< more, for what must not be read before
    double same_address = 0.0009;
    double same_processor = 0.03; ///< between two fences
};

class Card {
public:
    using Site = std::source_location;
    enum class Collective : std::uint8_t { none, match_any, ballot, shfl, sync, reduce_or };
    struct Spent {
        std::uint64_t accesses = 0;
        double us = 0; ///< of all lanes together
    };

    /// Throws std::bad_alloc. A lane's stack has 16 KiB.
    Card(unsigned processors, unsigned warps_per_processor, const AccessTimes& times);
    Card(const Card&) = delete;
    Card& operator=(const Card&) = delete;
    ~Card();

    unsigned processors() const { return processors_; }
    unsigned lane_count() const { return static_cast<unsigned>(lanes_.size()); }
    const AccessTimes& times() const { return times_; }

    /// Runs `body(lane)` on every lane of the card, warp after warp within the first half microsecond. Returns the time
    /// at which the last lane ended, in us. Throws std::logic_error when lanes wait for others that have ended.
    double run(std::function<void(unsigned)> body);

    // For the running lane:
    unsigned lane() const { return current_; }
    unsigned processor() const { return current_ / warp_lanes % processors_; }
    double now() const { return lanes_[current_].clock; }
    void wait_until(double us);
    /// An access of `us` that reaches memory half-way, where `effect` happens.
    template <class Effect>
    auto access(double us, Effect&& effect, const Site& site) {
        const double begun = now();
        wait_until(begun + us / 2);
        const auto result = effect();
        end_access(begun, us / 2, site);
        return result;
    }
    /// Waits until the address has served those who came before; then it is the caller's turn.
    void queue_at(const void* address);
    /// Waits for a fence of the processor.
    void fence();
    void spend(double us, const Site& site) { end_access(now(), us, site); }
    std::uint64_t arrive(Collective collective, std::uint32_t mask, std::uint64_t value, unsigned source);

    /// Where time was spent since the last call: "file:line function", the longest first.
    std::vector<std::pair<std::string, Spent>> take_sites();

    static constexpr unsigned warp_lanes = 32;

private:
    struct Lane {
        cuda_zstd::sim::Fiber fiber;
        double clock = 0;
        bool ended = false;
        Collective waits_in = Collective::none;
        std::uint32_t mask = 0;
        unsigned source = 0;
        std::uint64_t value = 0;
        std::uint64_t result = 0;
    };
    struct Turn {
        double us;
        unsigned lane;
        bool operator<(const Turn& other) const {
            return us != other.us ? us > other.us : lane > other.lane; // the earliest is on top
        }
    };

    static void enter();
    void go_on();
    void end_access(double begun, double more, const Site& site);
    std::uint64_t result_for(const Lane& lane, unsigned first) const;

    static constexpr std::size_t stack_bytes = 16 << 10;
    static inline Card* running_ = nullptr;

    unsigned processors_;
    AccessTimes times_;
    std::vector<Lane> lanes_;
    std::byte* stacks_ = nullptr;
    cuda_zstd::sim::Fiber home_;
    std::priority_queue<Turn> turns_;
    std::vector<unsigned> at_once_; ///< lanes that go on now: those of a collective that has ended
    unsigned current_ = 0;
    std::function<void(unsigned)> body_;
    std::unordered_map<const void*, double> address_free_at_;
    std::vector<double> fence_free_at_;
    std::map<std::pair<const char*, unsigned>, std::pair<Site, Spent>> sites_;
};

} // namespace bench
