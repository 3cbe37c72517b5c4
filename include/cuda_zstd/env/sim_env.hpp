// SPDX-License-Identifier: MIT
// The environment of the simulator: a lane of a warp of 1 to 32 lanes, under a seeded scheduler.
//
// Invariant: the scheduler may switch before every atomic access and in every collective, and nowhere else; memory
// is sequentially consistent, whatever the order asked for (relacy_env is the one that takes orders seriously).
// Wrong use of a collective ends the run with a report.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/env/atom.hpp"
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/env/sim/simulation.hpp"

#include <bit>
#include <type_traits>

namespace cuda_zstd {

template <unsigned Lanes>
class sim_env {
    using Op = sim::Op;
    using Site = sim::Site;

public:
    template <class T>
    using atom = Atom<T>;
    static constexpr unsigned warp_lanes = Lanes;
    static constexpr LaneMask whole_warp = Lanes == 32 ? ~LaneMask{0} : (LaneMask{1} << Lanes) - 1;

    /// Make one in each lane's body: `thread` is the body's argument.
    sim_env(sim::Simulation& simulation, unsigned thread) noexcept : simulation_(&simulation), thread_(thread) {}

    /// Threads are numbered warp by warp.
    unsigned thread() const noexcept { return thread_; }
    sim::Simulation& simulation() const noexcept { return *simulation_; }

    unsigned lane() const noexcept { return thread_ % Lanes; }
    LaneMask lanes_before() const noexcept { return low_bits(lane()); }
    LaneMask converged(Site site = Site::here()) const { return simulation_->converge(site); }
    LaneMask match_any(LaneMask mask, std::uint32_t value, Site site = Site::here()) const {
        return static_cast<LaneMask>(simulation_->arrive(Op::match_any, mask, value, 0, site));
    }
    LaneMask ballot(LaneMask mask, bool predicate, Site site = Site::here()) const {
        return static_cast<LaneMask>(simulation_->arrive(Op::ballot, mask, predicate ? 1 : 0, 0, site));
    }
    template <class T>
    T shfl(LaneMask mask, T value, unsigned source, Site site = Site::here()) const {
        return from_word<T>(simulation_->arrive(Op::shfl, mask, to_word(value), source, site));
    }
    void sync(LaneMask mask, Site site = Site::here()) const { simulation_->arrive(Op::sync, mask, 0, 0, site); }
    std::uint32_t reduce_or(LaneMask mask, std::uint32_t value, Site site = Site::here()) const {
        return static_cast<std::uint32_t>(simulation_->arrive(Op::reduce_or, mask, value, 0, site));
    }
    std::uint32_t warp_sum(std::uint32_t value, Site site = Site::here()) const {
        return static_cast<std::uint32_t>(simulation_->arrive(Op::warp_sum, whole_warp, value, 0, site));
    }
    std::uint32_t warp_exclusive_sum(std::uint32_t value, Site site = Site::here()) const {
        return static_cast<std::uint32_t>(simulation_->arrive(Op::warp_exclusive_sum, whole_warp, value, 0, site));
    }
    std::uint32_t warp_max(std::uint32_t value, Site site = Site::here()) const {
        return static_cast<std::uint32_t>(simulation_->arrive(Op::warp_max, whole_warp, value, 0, site));
    }
    unsigned processor() const { return simulation_->processor(); }
    void pause(unsigned, Site site = Site::here()) const { simulation_->pause(site); }

    /// A word that changes seldom, always relaxed: whoever reads it beside a change finds either value.
    std::uint32_t load_word(const std::uint32_t& word, Order) const noexcept { return word; }
    void store_word(std::uint32_t& word, std::uint32_t value, Order) const noexcept { word = value; }
    template <class T>
    T load(const atom<T>& a, Order, Site site = Site::here()) const {
        simulation_->step();
        simulation_->record(Op::load, &a, to_word(a.value), to_word(a.value), site);
        return a.value;
    }
    template <class T>
    void store(atom<T>& a, T value, Order, Site site = Site::here()) const {
        modify(a, Op::store, site, [&](T) { return value; });
    }
    template <class T>
    T exchange(atom<T>& a, T value, Order, Site site = Site::here()) const {
        return modify(a, Op::exchange, site, [&](T) { return value; });
    }
    /// On failure `expected` receives the value found.
    template <class T>
    bool compare_exchange(atom<T>& a, T& expected, T desired, Order, Site site = Site::here()) const {
        const T old = modify(a, Op::compare_exchange, site, [&](T seen) { return seen == expected ? desired : seen; });
        const bool done = old == expected;
        expected = old;
        return done;
    }
    template <class T>
    T fetch_add(atom<T>& a, T value, Order, Site site = Site::here()) const {
        return modify(a, Op::fetch_add, site, [&](T seen) { return static_cast<T>(seen + value); });
    }
    template <class T>
    T fetch_sub(atom<T>& a, T value, Order, Site site = Site::here()) const {
        return modify(a, Op::fetch_sub, site, [&](T seen) { return static_cast<T>(seen - value); });
    }
    template <class T>
    T fetch_or(atom<T>& a, T value, Order, Site site = Site::here()) const {
        return modify(a, Op::fetch_or, site, [&](T seen) { return static_cast<T>(seen | value); });
    }
    template <class T>
    T fetch_and(atom<T>& a, T value, Order, Site site = Site::here()) const {
        return modify(a, Op::fetch_and, site, [&](T seen) { return static_cast<T>(seen & value); });
    }
    template <class T>
    T fetch_min(atom<T>& a, T value, Order, Site site = Site::here()) const {
        return modify(a, Op::fetch_min, site, [&](T seen) { return value < seen ? value : seen; });
    }

private:
    template <class T>
    static std::uint64_t to_word(T value) noexcept {
        if constexpr (std::is_pointer_v<T>) {
            return reinterpret_cast<std::uint64_t>(value);
        } else {
            static_assert(std::is_integral_v<T>, "cells and shuffled values are integers or pointers");
            return static_cast<std::make_unsigned_t<T>>(value);
        }
    }
    template <class T>
    static T from_word(std::uint64_t word) noexcept {
        if constexpr (std::is_pointer_v<T>)
            return reinterpret_cast<T>(word);
        else
            return static_cast<T>(word);
    }
    template <class T, class Change>
    T modify(atom<T>& a, Op op, Site site, Change&& change) const {
        simulation_->step();
        const T old = a.value;
        a.value = change(old);
        simulation_->record(op, &a, to_word(old), to_word(a.value), site);
        return old;
    }

    sim::Simulation* simulation_;
    unsigned thread_;
};

} // namespace cuda_zstd
