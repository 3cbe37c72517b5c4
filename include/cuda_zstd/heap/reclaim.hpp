// SPDX-License-Identifier: MIT
// Reclaiming: empty slabs give their pages back, so that these can serve any size.
//
// Invariant: there is one reclaimer at a time, and its work is one move. `became_empty` counts the notices that a slab
// with all its credits is in reach, `reclaimed` is that count as the last reclaimer found it before it looked: equal,
// with no move under way, they prove that there is nothing to reclaim.
//
// Progress: lock-free, except that a request waits, a limited number of looks, while another thread reclaims.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
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

    atom<std::uint32_t>* reclaimed; ///< became_empty as the last reclaim found it
    atom<std::uint32_t>* epoch;     ///< odd while somebody reclaims

    /// Whether a list or a cursor may have a slab of the class: false is a proof that none has.
    CUDA_ZSTD_INLINE bool has_listed(Env& env, unsigned size_class) const {
        return env.load(stations.template listed_count<Env>(size_class), Order::acquire) != 0;
    }

    /// Retires every slab that is empty and in reach, so that its pages can serve any size. Online: it may run beside
    /// allocations and frees. Returns false when there was nothing to do, true when the caller should look again.
    CUDA_ZSTD_RARE bool reclaim(Env& env) const {
        switch (begin_reclaim(env)) {
        case Reclaim::idle:
            return false;
        case Reclaim::begun:
            drain(env, 0, 1);
            end_reclaim(env);
            return true;
        case Reclaim::busy:
            break;
        }
        await_reclaim(env);
        return true;
    }

    /// Waits until nobody reclaims, for a bounded time.
    CUDA_ZSTD_RARE void await_reclaim(Env& env) const {
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
        env.store(*reclaimed, mark, Order::release);
        return Reclaim::begun;
    }

    /// The share of one of `workers` in a reclaim that has begun: its stations of each class that has slabs.
    CUDA_ZSTD_HD void drain(Env& env, unsigned worker, unsigned workers) const {
        for (unsigned size_class = 0; size_class < size_class_count; ++size_class) {
            if (!has_listed(env, size_class)) continue;
            for (unsigned station = worker; station < stations.count; station += workers) {
                drain_cursor(env, cursor_of(size_class, station));
                drain_list(env, list_of(size_class, station));
            }
        }
    }

    /// Ends the reclaim, after all workers are done; by the one who began it.
    CUDA_ZSTD_HD void end_reclaim(Env& env) const {
        env.fetch_add(*epoch, 1u, Order::release);
        stations.end_move(env);
    }

    /// Takes empty slabs out of a cursor and retires them; as a part of a move. Returns how many.
    CUDA_ZSTD_HD unsigned drain_cursor(Env& env, atom<std::uint64_t>& cursor) const {
        const Cursor seen{env.load(cursor, Order::acquire)};
        if (seen.raw == 0 || seen.busy()) return 0;
        const auto is_empty = [&](std::uint32_t slab_plus_1) {
            return slab_plus_1 != 0 && word(env, slab_plus_1 - 1u).all_free();
        };
        const bool drops_current = is_empty(seen.current_plus_1());
        const bool drops_next = is_empty(seen.next_plus_1());
        if (!drops_current && !drops_next) return 0;
        std::uint64_t expected = seen.raw;
        const Cursor left = Cursor::of(drops_current ? 0 : seen.current_plus_1(), drops_next ? 0 : seen.next_plus_1());
        if (!env.compare_exchange(cursor, expected, left.raw, Order::acq_rel)) return 0;
        if (drops_current) settle(env, seen.current_plus_1() - 1u);
        if (drops_next) settle(env, seen.next_plus_1() - 1u);
        return drops_current + drops_next;
    }

    /// Takes all slabs of a list off, retires the empty ones, and puts the others back in their order; as a part of a
    /// reclaim: one that becomes empty while it is held here leaves a notice that this reclaim has not counted. Returns
    /// how many.
    CUDA_ZSTD_HD unsigned drain_list(Env& env, const SlabList<Env>& slab_list) const {
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
};

} // namespace cuda_zstd
