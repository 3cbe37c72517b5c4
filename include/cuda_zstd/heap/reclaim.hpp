// SPDX-License-Identifier: MIT
// Reclaiming: empty slabs give their pages back, so that these can serve any size.
//
// Invariant: there is one reclaimer at a time, and its work is one move. `became_empty` counts the notices that a slab
// with all its credits is in reach, `reclaimed` is that count as it was when the last sweep through all places began:
// equal, with no move under way, they prove that there is nothing to reclaim. A reclaimer may leave a sweep before its
// end, when it has what it wants; the next one goes on from there.
//
// Progress: lock-free, except that a request waits, a limited number of looks, while another thread reclaims.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/heap/slab_shelf.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Looks at a reclaim that does not end, before a request looks for itself again.
inline constexpr unsigned reclaim_looks = 65536;

template <class Env>
struct SlabReclaim : SlabShelf<Env> {
    using Shelf = SlabShelf<Env>;
    template <class T>
    using atom = typename Env::template atom<T>;
    using Shelf::cursor_of, Shelf::list_of, Shelf::word, Shelf::settle, Shelf::stations, Shelf::no_slab;

    /// More pages than there are: a reclaim that is after these sweeps all places.
    static constexpr std::uint32_t all_pages = 0xffffffffu;

    atom<std::uint32_t>* reclaimed; ///< became_empty before the last whole sweep
    atom<std::uint32_t>* epoch;     ///< odd while somebody reclaims
    // The reclaimer's own:
    atom<std::uint32_t>* sweep_mark; ///< became_empty before the sweep that is under way
    atom<std::uint32_t>* sweep_at;   ///< stations, class by class, that it has been at

    /// Whether a list or a cursor may have a slab of the class: false, with no move under way, is a proof that none
    /// has.
    CUDA_ZSTD_INLINE bool has_listed(Env& env, unsigned size_class) const {
        return env.load(stations.template listed_count<Env>(size_class), Order::acquire) != 0;
    }

    /// Retires slabs that are empty and in reach, so that their pages can serve any size: until `enough` pages are
    /// free, or all of them. Online: it may run beside allocations and frees. Returns false when there was nothing to
    /// do, true when the caller should look again.
    CUDA_ZSTD_RARE bool reclaim(PassedEnv<Env> env, std::uint32_t enough = all_pages) const {
        switch (begin_reclaim(env)) {
        case Reclaim::idle:
            return false;
        case Reclaim::begun:
            sweep(env, enough);
            end_reclaim(env);
            return true;
        case Reclaim::busy:
            break;
        }
        await_reclaim(env);
        return true;
    }

    /// Pages that a reclaim for slabs is after: no more than needed, since all of a size's requests wait meanwhile.
    CUDA_ZSTD_INLINE std::uint32_t enough_pages(Env& env) const { return this->pages.pages_now(env) / 64u + 1u; }

    /// Waits until nobody reclaims, for a bounded time.
    CUDA_ZSTD_RARE void await_reclaim(PassedEnv<Env> env) const {
        for (unsigned wait = 0; wait < reclaim_looks && (env.load(*epoch, Order::acquire) & 1u) != 0; ++wait)
            env.pause(wait);
    }

    enum class Reclaim : unsigned char { idle, begun, busy };

    /// Becomes the one reclaimer (`begun`), unless no slab became empty since the last one (`idle`) or there is one. A
    /// reclaim is one move, so that nobody takes `idle` for an answer while another's is under way.
    CUDA_ZSTD_HD Reclaim begin_reclaim(Env& env) const {
        std::uint32_t seen = env.load(*epoch, Order::acquire);
        if ((seen & 1u) != 0) return Reclaim::busy;
        const std::uint32_t mark = env.load(*this->became_empty, Order::acquire);
        if (env.load(*reclaimed, Order::acquire) == mark) return Reclaim::idle;
        stations.begin_move(env);
        if (!env.compare_exchange(*epoch, seen, seen + 1u, Order::acq_rel)) {
            stations.end_move(env);
            return Reclaim::busy;
        }
        if (env.load(*sweep_at, Order::relaxed) == 0) env.store(*sweep_mark, mark, Order::relaxed);
        return Reclaim::begun;
    }

    /// The share of one of `workers` in a whole sweep that has begun: its stations of each class that has slabs. Before
    /// it, begin_whole_sweep().
    CUDA_ZSTD_HD void drain(Env& env, unsigned worker, unsigned workers) const {
        for (unsigned size_class = 0; size_class < size_class_count; ++size_class) {
            if (!has_listed(env, size_class)) continue;
            for (unsigned station = worker; station < stations.count; station += workers) {
                drain_cursor(env, cursor_of(size_class, station));
                drain_list(env, list_of(size_class, station));
            }
        }
    }

    /// For whoever has begun a reclaim and sweeps all places, from the first on.
    CUDA_ZSTD_HD void begin_whole_sweep(Env& env) const {
        env.store(*sweep_at, 0u, Order::relaxed);
        env.store(*reclaimed, env.load(*this->became_empty, Order::acquire), Order::release);
    }

    /// Ends the reclaim, after all workers are done; by the one who began it.
    CUDA_ZSTD_HD void end_reclaim(Env& env) const {
        env.fetch_add(*epoch, 1u, Order::release);
        stations.end_move(env);
    }

    /// Takes empty slabs out of a cursor and retires them; as a part of a move. Returns how many. A cursor that changes
    /// meanwhile is looked at again, since nobody would tell again of a slab that stays empty; one that is busy is not:
    /// whoever made it so tells.
    CUDA_ZSTD_HD unsigned drain_cursor(Env& env, atom<std::uint64_t>& cursor) const {
        const auto is_empty = [&](std::uint32_t slab_plus_1) {
            return slab_plus_1 != 0 && word(env, slab_plus_1 - 1u).all_free();
        };
        for (;;) {
            const Cursor seen{env.load(cursor, Order::acquire)};
            if (seen.raw == 0 || seen.busy()) return 0;
            const bool drops_current = is_empty(seen.current_plus_1());
            const bool drops_next = is_empty(seen.next_plus_1());
            if (!drops_current && !drops_next) return 0;
            std::uint64_t expected = seen.raw;
            const Cursor left =
                Cursor::of(drops_current ? 0 : seen.current_plus_1(), drops_next ? 0 : seen.next_plus_1());
            if (!env.compare_exchange(cursor, expected, left.raw, Order::acq_rel)) continue;
            if (drops_current) settle(env, seen.current_plus_1() - 1u);
            if (drops_next) settle(env, seen.next_plus_1() - 1u);
            return drops_current + drops_next;
        }
    }

    /// Takes all slabs of a list off, retires the empty ones, and puts the others back in their order; as a part of a
    /// reclaim: one that becomes empty while it is held here leaves a notice that this reclaim has not counted. Returns
    /// how many.
    CUDA_ZSTD_RARE unsigned drain_list(PassedEnv<Env> env, const SlabList<Env>& slab_list) const {
        unsigned retired = 0;
        std::uint32_t first = no_slab;
        std::uint32_t last = first;
        bool has_gap = false; // between `last` and the slab
        for (std::uint32_t slab = slab_list.pop_all(env); slab != no_slab;) {
            const std::uint32_t below = env.load(this->next[slab], Order::relaxed);
            if (word(env, slab).all_free()) {
                settle(env, slab);
                ++retired;
                has_gap = true;
            } else {
                if (last == no_slab)
                    first = slab;
                else if (has_gap)
                    env.store(this->next[last], slab + 1u, Order::relaxed);
                has_gap = false;
                last = slab;
            }
            slab = below == 0 ? no_slab : below - 1u;
        }
        if (first != no_slab) slab_list.push_chain(env, first, last);
        return retired;
    }

private:
    /// Goes on with a sweep until `enough` pages are free or it is through.
    CUDA_ZSTD_RARE void sweep(PassedEnv<Env> env, std::uint32_t enough) const {
        std::uint32_t at = env.load(*sweep_at, Order::relaxed);
        do {
            at = sweep_some(env, at);
        } while (at != 0 && !this->pages.may_have(env, enough));
        if (at == 0) env.store(*reclaimed, env.load(*sweep_mark, Order::relaxed), Order::release);
        env.store(*sweep_at, at, Order::relaxed);
    }

    /// Sweeps a few stations of one class; returns where to go on, 0 at the end.
    CUDA_ZSTD_RARE std::uint32_t sweep_some(PassedEnv<Env> env, std::uint32_t at) const {
        const unsigned size_class = at / stations.count;
        const unsigned first = at - size_class * stations.count;
        unsigned count = stations.count - first;
        if (has_listed(env, size_class)) {
            if (count > stations_at_once) count = stations_at_once;
            for (std::uint32_t used = used_stations(env, size_class, first, count); used != 0; used &= used - 1u) {
                drain_cursor(env, cursor_of(size_class, first + lowest_bit(used)));
                drain_list(env, list_of(size_class, first + lowest_bit(used)));
            }
        }
        return at + count < size_class_count * stations.count ? at + count : 0;
    }

    static constexpr unsigned stations_at_once = 6;

    /// Which of `count` stations have a cursor or a list that is not empty: bit n for station `first` + n. Several are
    /// looked at at once, since most have nothing.
    CUDA_ZSTD_RARE std::uint32_t used_stations(PassedEnv<Env> env, unsigned size_class, unsigned first,
                                               unsigned count) const {
        std::uint32_t used = 0;
        for (unsigned ahead = 0; ahead < stations_at_once; ++ahead) {
            if (ahead >= count) continue;
            const auto cursor = env.load(cursor_of(size_class, first + ahead), Order::relaxed);
            const auto head = env.load(*list_of(size_class, first + ahead).head, Order::relaxed);
            used |= (cursor != 0 || static_cast<std::uint32_t>(head) != 0 ? 1u : 0u) << ahead;
        }
        return used;
    }
};

} // namespace cuda_zstd
