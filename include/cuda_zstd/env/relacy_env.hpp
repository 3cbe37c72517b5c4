// SPDX-License-Identifier: MIT
// The environment of the model checker: each lane is a thread of Relacy, which explores interleavings and the weak
// memory model's outcomes.
//
// Invariant: an order asked for is the order that Relacy sees, unless a mutation of the test weakens it. A warp of two
// lanes is two of its threads: `shfl`, `ballot` and `match_any` carry values outside of the modelled memory and order
// nothing; `sync` orders what came before it in every lane of the mask before what follows in every one.
//
// Relacy's macros that rename keywords, memory orders and POSIX functions are not included.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/env/environment.hpp"

#include <cstdint>
#include <type_traits>

#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wconversion"
#endif
// The parts of relacy/relacy.hpp without its macros, which rename keywords, memory orders and POSIX functions.
#include <relacy/base.hpp>
// (in this order)
#include <relacy/context.hpp>
// (in this order)
#include <relacy/atomic.hpp>
#include <relacy/atomic_fence.hpp>
#include <relacy/backoff.hpp>
#include <relacy/context_base_impl.hpp>
#include <relacy/stdlib/condition_variable.hpp>
#include <relacy/stdlib/event.hpp>
#include <relacy/stdlib/mutex.hpp>
#include <relacy/stdlib/semaphore.hpp>
#include <relacy/test_suite.hpp>
#include <relacy/var.hpp>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#undef $

namespace cuda_zstd {

/// A cell of modelled memory. Not plain data: construct it inside a simulation.
template <class T>
struct ModelAtom {
    rl::atomic<T> cell;
};

enum class Access : unsigned char {
    load,
    store,
    exchange,
    compare_exchange,
    fetch_add,
    fetch_sub,
    fetch_or,
    fetch_and,
    sync, ///< of lanes
};

/// A place in the source that made an access.
struct ModelSite {
    const char* file;
    int line;
    static constexpr ModelSite here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
    operator rl::debug_info() const { return {"", file, static_cast<unsigned>(line)}; }
};

/// No mutation: what the algorithms say is what is checked. A test plants a bug by a class with the same members.
struct AsWritten {
    static constexpr Order order_of(Access, Order order, ModelSite) { return order; }
    /// Whether the `sync` at a place orders memory.
    static constexpr bool sync_orders(ModelSite) { return true; }
    /// The bits of a 64-bit cell that compare_exchange compares.
    static constexpr std::uint64_t compared_bits = ~std::uint64_t{0};
};

/// What the lanes of one warp share; one for each warp, a member of the test suite. `Threads` is the suite's.
template <rl::thread_id_t Threads, unsigned Lanes>
class ModelWarp {
public:
    enum class Memory : unsigned char { unordered, ordered };

    /// Waits for the lanes of the mask, each of which brings a value; returns all of them. Deadlock is Relacy's to
    /// find.
    const std::uint64_t* meet(LaneMask mask, unsigned lane, std::uint64_t value, Memory memory) {
        rl::context& context = rl::ctx();
        const rl::debug_info here("meet", __FILE__, __LINE__);
        Meeting& meeting = meetings_[mask];
        context.sched();
        // A lane that is still reading the last meeting's values has not come back: two sets are enough.
        std::uint64_t* const values = meeting.values[meeting.generation % 2];
        values[lane] = value;
        if (memory == Memory::ordered) meeting.order.release(context.threadx_);
        meeting.arrived |= LaneMask{1} << lane;
        if (meeting.arrived == mask) {
            meeting.arrived = 0;
            ++meeting.generation;
            meeting.waiting.unpark_all(context, here);
        } else {
            meeting.waiting.park_current(context, false, false, false, here);
        }
        if (memory == Memory::ordered) meeting.order.acquire(context.threadx_);
        return values;
    }

    /// Whether the `ordinal`-th converged() of a lane finds the whole warp, or the caller alone: drawn once for all.
    bool together(unsigned lane) {
        const unsigned ordinal = calls_[lane]++ % drawn_count;
        if (drawn_[ordinal] == unknown) drawn_[ordinal] = static_cast<std::uint8_t>(rl::rand(2));
        return drawn_[ordinal] != 0;
    }

private:
    struct Meeting {
        LaneMask arrived = 0;
        unsigned generation = 0;
        std::uint64_t values[2][Lanes] = {};
        rl::waitset<Threads> waiting;
        rl::sync_var<Threads> order;
    };
    static constexpr std::uint8_t unknown = 2;
    static constexpr unsigned drawn_count = 16;
    Meeting meetings_[LaneMask{1} << Lanes];
    std::uint8_t drawn_[drawn_count] = {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
    unsigned calls_[Lanes] = {};
};

template <rl::thread_id_t Threads, unsigned Lanes = 1, class Mutation = AsWritten>
class relacy_env {
    static_assert(Lanes == 1 || Lanes == 2, "a modelled warp has one lane or two");
    using Warp = ModelWarp<Threads, Lanes>;
    using Memory = typename Warp::Memory;

    using Site = ModelSite;

public:
    template <class T>
    using atom = ModelAtom<T>;
    static constexpr unsigned warp_lanes = Lanes;

    relacy_env(Warp& warp, unsigned lane, unsigned processor = 0) : warp_(&warp), lane_(lane), processor_(processor) {}

    unsigned lane() const { return lane_; }
    LaneMask lanes_before() const { return low_bits(lane_); }
    LaneMask converged() const {
        if (Lanes == 1) return 1;
        return warp_->together(lane_) ? whole : LaneMask{1} << lane_;
    }
    LaneMask match_any(LaneMask mask, std::uint32_t value) const {
        const std::uint64_t* const values = meet(mask, value, Memory::unordered);
        LaneMask equal = 0;
        for (unsigned lane = 0; lane < Lanes; ++lane)
            if ((mask >> lane & 1u) != 0 && values[lane] == value) equal |= LaneMask{1} << lane;
        return equal;
    }
    LaneMask ballot(LaneMask mask, bool predicate) const {
        const std::uint64_t* const values = meet(mask, predicate ? 1 : 0, Memory::unordered);
        LaneMask set = 0;
        for (unsigned lane = 0; lane < Lanes; ++lane)
            if ((mask >> lane & 1u) != 0 && values[lane] != 0) set |= LaneMask{1} << lane;
        return set;
    }
    template <class T>
    T shfl(LaneMask mask, T value, unsigned source) const {
        return static_cast<T>(meet(mask, value, Memory::unordered)[source]);
    }
    void sync(LaneMask mask, Site site = Site::here()) const {
        meet(mask, 0, Mutation::sync_orders(site) ? Memory::ordered : Memory::unordered);
    }
    std::uint32_t reduce_or(LaneMask mask, std::uint32_t value) const {
        const std::uint64_t* const values = meet(mask, value, Memory::unordered);
        std::uint64_t all = 0;
        for (unsigned lane = 0; lane < Lanes; ++lane)
            if ((mask >> lane & 1u) != 0) all |= values[lane];
        return static_cast<std::uint32_t>(all);
    }
    std::uint32_t warp_sum(std::uint32_t value) const {
        const std::uint64_t* const values = meet(whole, value, Memory::unordered);
        std::uint64_t sum = 0;
        for (unsigned lane = 0; lane < Lanes; ++lane)
            sum += values[lane];
        return static_cast<std::uint32_t>(sum);
    }
    std::uint32_t warp_exclusive_sum(std::uint32_t value) const {
        const std::uint64_t* const values = meet(whole, value, Memory::unordered);
        std::uint64_t sum = 0;
        for (unsigned lane = 0; lane < lane_; ++lane)
            sum += values[lane];
        return static_cast<std::uint32_t>(sum);
    }
    std::uint32_t warp_max(std::uint32_t value) const {
        const std::uint64_t* const values = meet(whole, value, Memory::unordered);
        std::uint64_t largest = 0;
        for (unsigned lane = 0; lane < Lanes; ++lane)
            largest = values[lane] > largest ? values[lane] : largest;
        return static_cast<std::uint32_t>(largest);
    }
    unsigned processor() const { return processor_; }
    void pause(unsigned, Site site = Site::here()) const { rl::yield(1, site); }

    /// A word that changes seldom, always relaxed: whoever reads it beside a change finds either value.
    std::uint32_t load_word(const std::uint32_t& word, Order) const { return word; }
    void store_word(std::uint32_t& word, std::uint32_t value, Order) const { word = value; }
    template <class T>
    T load(const atom<T>& a, Order order, Site site = Site::here()) const {
        return a.cell.load(model_order(Access::load, order, site), site);
    }
    template <class T>
    void store(atom<T>& a, std::type_identity_t<T> value, Order order, Site site = Site::here()) const {
        a.cell.store(value, model_order(Access::store, order, site), site);
    }
    template <class T>
    T exchange(atom<T>& a, std::type_identity_t<T> value, Order order, Site site = Site::here()) const {
        return a.cell.exchange(value, model_order(Access::exchange, order, site), site);
    }
    template <class T>
    bool compare_exchange(atom<T>& a, T& expected, std::type_identity_t<T> desired, Order order,
                          Site site = Site::here()) const {
        const Order success = Mutation::order_of(Access::compare_exchange, order, site);
        const bool acquires = success == Order::acquire || success == Order::acq_rel;
        const rl::memory_order failure = acquires ? rl::mo_acquire : rl::mo_relaxed;
        for (;;) {
            const T wanted = expected;
            if (a.cell.compare_exchange_strong(expected, desired, to_relacy(success), site, failure, site)) return true;
            // With all bits compared this is a failure; a mutation that looks at fewer takes the value for the same.
            if (((wanted ^ expected) & static_cast<T>(Mutation::compared_bits)) != 0 || wanted == expected)
                return false;
        }
    }
    template <class T>
    T fetch_add(atom<T>& a, std::type_identity_t<T> value, Order order, Site site = Site::here()) const {
        return a.cell.fetch_add(value, model_order(Access::fetch_add, order, site), site);
    }
    template <class T>
    T fetch_sub(atom<T>& a, std::type_identity_t<T> value, Order order, Site site = Site::here()) const {
        return a.cell.fetch_sub(value, model_order(Access::fetch_sub, order, site), site);
    }
    template <class T>
    T fetch_or(atom<T>& a, std::type_identity_t<T> value, Order order, Site site = Site::here()) const {
        return a.cell.fetch_or(value, model_order(Access::fetch_or, order, site), site);
    }
    template <class T>
    T fetch_and(atom<T>& a, std::type_identity_t<T> value, Order order, Site site = Site::here()) const {
        return a.cell.fetch_and(value, model_order(Access::fetch_and, order, site), site);
    }
    template <class T>
    T fetch_min(atom<T>& a, std::type_identity_t<T> value, Order order, Site site = Site::here()) const {
        T seen = load(a, Order::relaxed, site);
        while (value < seen && !compare_exchange(a, seen, value, order, site)) {
        }
        return seen;
    }

private:
    static constexpr LaneMask whole = (LaneMask{1} << Lanes) - 1;

    const std::uint64_t* meet(LaneMask mask, std::uint64_t value, Memory memory) const {
        return warp_->meet(mask, lane_, value, memory);
    }
    static rl::memory_order to_relacy(Order order) {
        switch (order) {
        case Order::relaxed:
            return rl::mo_relaxed;
        case Order::acquire:
            return rl::mo_acquire;
        case Order::release:
            return rl::mo_release;
        case Order::acq_rel:
            return rl::mo_acq_rel;
        }
        return rl::mo_acq_rel;
    }
    static rl::memory_order model_order(Access access, Order order, Site site) {
        return to_relacy(Mutation::order_of(access, order, site));
    }

    Warp* warp_;
    unsigned lane_;
    unsigned processor_;
};

} // namespace cuda_zstd
