// SPDX-License-Identifier: MIT
// The simulator's environment with one planted fault: proof that the heap's properties can fail.
// Invariant: but for its fault it is sim_env, so what a scenario reports with it is the fault.
#pragma once

#include "cuda_zstd/env/sim_env.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cstdint>

namespace cuda_zstd::test {

enum class Fault {
    none,
    torn_fetch_or,         ///< two lanes can take one slot
    torn_fetch_add,        ///< credits and counts get lost
    torn_compare_exchange, ///< two lanes can both succeed
    ignored_counter,       ///< list heads are compared without their counter: the ABA problem
    lost_empty_notice,     ///< nobody is told that a slab became empty
    lost_listing,          ///< a slab with credits again is put on no list
};

template <unsigned Lanes, Fault fault>
class faulty_env : public sim_env<Lanes> {
    using Base = sim_env<Lanes>;
    using Site = sim::Site;

public:
    template <class T>
    using atom = Atom<T>;
    /// What a fault that concerns one kind of cell looks for; set by the test before it runs.
    static inline const void* target_begin = nullptr;
    static inline const void* target_end = nullptr;

    using Base::Base;

    template <class T>
    T fetch_or(atom<T>& a, T value, Order order, Site site = Site::here()) const {
        if constexpr (fault == Fault::torn_fetch_or) {
            const T old = Base::load(a, order, site);
            Base::store(a, static_cast<T>(old | value), order, site);
            return old;
        }
        return Base::fetch_or(a, value, order, site);
    }
    template <class T>
    T fetch_add(atom<T>& a, T value, Order order, Site site = Site::here()) const {
        if constexpr (fault == Fault::torn_fetch_add) {
            const T old = Base::load(a, order, site);
            Base::store(a, static_cast<T>(old + value), order, site);
            return old;
        }
        if constexpr (fault == Fault::lost_empty_notice)
            if (is_target(a)) return Base::load(a, order, site);
        return Base::fetch_add(a, value, order, site);
    }
    template <class T>
    bool compare_exchange(atom<T>& a, T& expected, T desired, Order order, Site site = Site::here()) const {
        if constexpr (fault == Fault::torn_compare_exchange) {
            const T old = Base::load(a, order, site);
            if (old == expected) {
                Base::store(a, desired, order, site);
                return true;
            }
            expected = old;
            return false;
        }
        if constexpr (fault == Fault::ignored_counter && sizeof(T) == 8) {
            // A station is a cursor, whose upper half is no counter, and a list.
            const auto offset = reinterpret_cast<const char*>(&a) - static_cast<const char*>(target_begin);
            if (is_target(a) && static_cast<std::uint32_t>(offset) % station_bytes != 0) {
                T seen = Base::load(a, order, site);
                while (static_cast<std::uint32_t>(seen) == static_cast<std::uint32_t>(expected))
                    if (Base::compare_exchange(a, seen, desired, order, site)) return true;
                expected = seen;
                return false;
            }
        }
        if constexpr (fault == Fault::lost_listing) {
            if (is_target(a) && (desired & ~expected) == 0x40) return true; // says it listed the slab, and did not
        }
        return Base::compare_exchange(a, expected, desired, order, site);
    }

private:
    template <class T>
    static bool is_target(const atom<T>& a) {
        return &a >= target_begin && static_cast<const void*>(&a) < target_end;
    }
};

} // namespace cuda_zstd::test
