// SPDX-License-Identifier: MIT
// Where slots come from when a cursor's slab has none: the slab prepared to follow it, slabs of the list, new slabs,
// other processors' slabs, and empty slabs of other sizes.
//
// Invariant: while a cursor is busy, only the one who made it so changes it. A group whose slots fill several pages
// waits for nobody (own_slabs.hpp). All others of a processor and class are served by one cursor, whose next slab is
// prepared while half of the present one is still there, so that moving on is one compare-and-swap.
//
// Progress: lock-free, except that a group that finds its cursor busy and empty waits for the one who is bringing a
// slab. That is a running warp, so nothing here waits for one that has not started; if the cursor does not change for
// `refill_looks` looks, a request ends in `contended`.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/heap/own_slabs.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Looks at a cursor that does not change, before a request ends in `contended`: about a quarter of a second on a GPU,
/// since a refiller may be slowed down by a tool or a debugger.
inline constexpr unsigned refill_looks = 65536;

template <class Env>
struct SlabSupply : OwnSlabs<Env> {
    using Shelf = SlabShelf<Env>;
    template <class T>
    using atom = typename Env::template atom<T>;
    using Shelf::cursor_of, Shelf::list_of, Shelf::word, Shelf::settle, Shelf::published, Shelf::stations, Shelf::slabs,
        Shelf::pages, Shelf::no_slab;

    /// The rare half of a reservation of `want` slots by a group that found its cursor as `cursor_raw`. If that holds a
    /// slab, the group has subtracted `want` from its word, which was `old_raw`. Static, since it is called through a
    /// pointer. A count of 0 comes with a Status, full or contended, in `start`.
    static CUDA_ZSTD_RARE SlabGrant reserve_rarely(const SlabSupply* supply, PassedEnv<Env> env, unsigned size_class,
                                                   std::uint32_t want, std::uint64_t cursor_raw,
                                                   std::uint64_t old_raw) {
        const unsigned station = supply->stations.here(env);
        const std::uint32_t slab_plus_1 = Cursor{cursor_raw}.current_plus_1();
        const bool fills_a_slab = supply->fills_a_slab(size_class, want);
        if (slab_plus_1 != 0) {
            const SlabGrant part = SlabMap<Env>::granted(SlabWord{old_raw}, slab_plus_1 - 1u, size_class, want);
            if (part.count == want && !fills_a_slab) supply->prepare(env, size_class, station, cursor_raw, Haste::none);
            if (part.count != want) supply->give_back(env, slab_plus_1 - 1u, want - part.count);
            if (part.count != 0) return part;
            // Who was the first to find nothing moves the cursor on; the others take from the slab that follows.
            const Cursor cursor{cursor_raw};
            if (SlabWord{old_raw}.credits() < 0 && cursor.next_plus_1() != 0) {
                const SlabGrant next = supply->reserve(env, cursor.next_plus_1() - 1u, size_class, want);
                if (next.count != 0) return next;
            }
        }
        if (fills_a_slab) {
            bool lacks_shared = false;
            SlabGrant grant = supply->take_shared(env, size_class, want, Cursor{cursor_raw}, lacks_shared);
            if (lacks_shared) grant = supply->bring_shared(env, Cursor{cursor_raw}, size_class, want);
            if (grant.count == 0) grant = supply->take_own_slab(env, size_class, want);
            if (grant.count == 0) grant = supply->search_own_slab(env, size_class, want);
            if (grant.count != 0) return grant;
        }
        return supply->refill(env, size_class, station, want, Cursor{cursor_raw});
    }

    /// Another slot than the one that somebody else has, for a lane that has a credit of the slab: see find_slot. When
    /// there is none, the credit goes back.
    static CUDA_ZSTD_RARE std::uint32_t find_slot_rarely(const SlabSupply* supply, PassedEnv<Env> env,
                                                         std::uint32_t slab, std::uint32_t start,
                                                         std::uint32_t offset) {
        const std::uint32_t slot = supply->slabs.find_slot(env, slab, start, offset);
        if (slot == no_slot) supply->give_back(env, slab, 1);
        return slot;
    }

private:
    /// Reserves up to `want` slots of the class when the slab of the cursor, found as `seen`, had none.
    CUDA_ZSTD_RARE SlabGrant refill(PassedEnv<Env> env, unsigned size_class, unsigned station, std::uint32_t want,
                                    Cursor seen) const {
        atom<std::uint64_t>& cursor = cursor_of(size_class, station);
        unsigned looks = 0;
        unsigned overtaken = 0;
        Haste haste = Haste::none;
        bool is_known = true; // that the slab has none
        for (unsigned turn = 0; turn < supply_turns;) {
            SlabGrant grant{0, 0, 0};
            if (!is_known) {
                bool in_debt = false;
                seen = Cursor{env.load(cursor, Order::acquire)};
                grant = from_slab(env, seen.current_plus_1(), size_class, want, in_debt);
                if (grant.count != 0) return grant;
            }
            is_known = false;
            if (seen.busy()) {
                haste = Haste::waited;
                looks = await_change(env, cursor, seen.raw, looks);
                if (looks == refill_looks) break;
                continue;
            }
            grant = follows(env, seen) ? move_on(env, cursor, seen, size_class, station, want, haste)
                                       : bring(env, cursor, seen, size_class, station, want, haste);
            if (grant.count != 0 || grant.start == static_cast<std::uint32_t>(Status::full)) return grant;
            haste = Haste::waited;
            // A turn that others used is not this request's: it counts only if nothing moved here.
            if (env.load(cursor, Order::relaxed) == seen.raw || ++overtaken > refill_looks)
                env.pause(turn++);
            else
                env.pause(2);
        }
        return refused(Status::contended);
    }

    /// Whether the cursor's next slab is one to move on to, and not one that was set aside and has nothing yet.
    CUDA_ZSTD_INLINE bool follows(Env& env, Cursor seen) const {
        return seen.next_plus_1() != 0 &&
               (seen.current_plus_1() != 0 || word(env, seen.next_plus_1() - 1u).credits() > 0);
    }

    /// Looks at a busy cursor until it changes, for a while: slots may also come back to the slab that it has. Returns
    /// the looks without a change, at most refill_looks.
    CUDA_ZSTD_RARE unsigned await_change(PassedEnv<Env> env, atom<std::uint64_t>& cursor, std::uint64_t seen_raw,
                                         unsigned looks) const {
        for (unsigned here = 0; here < looks_at_once && looks < refill_looks; ++here) {
            env.pause(looks++ < 64 ? 2 : 7); // a slab is brought within a few microseconds
            if (env.load(cursor, Order::relaxed) != seen_raw) return 0;
        }
        return looks;
    }
    static constexpr unsigned looks_at_once = 8;

    /// What decides where the next slab comes from, all looked at at once: one look takes as long as all.
    struct Look {
        std::uint64_t list = 0;       ///< the head of the station's list
        std::uint32_t free_pages = 0; ///< or more
        int current_log2 = -1;        ///< of the slab that the cursor has; -1 when it has none
        bool has_plenty = false;      ///< of free pages: then a slab may be made before it is needed
        bool is_late = false;         ///< the cursor has changed
    };
    CUDA_ZSTD_INLINE Look look(Env& env, const atom<std::uint64_t>& cursor, const SlabList<Env>& list,
                               Cursor seen) const {
        const atom<std::uint32_t>& free_count = *pages.free_count;
        const atom<std::uint64_t>* const words = slabs.words;
        const std::uint32_t pages_now = pages.pages_now(env);
        const bool drains = pages.has_far(env);
        Look found;
        found.free_pages = env.load(free_count, Order::relaxed);
        const std::uint64_t now = env.load(cursor, Order::relaxed);
        SlabWord current{0};
        if (seen.current_plus_1() != 0) current.raw = env.load(words[seen.current_plus_1() - 1u], Order::relaxed);
        found.list = list.look(env);
        found.is_late = now != seen.raw;
        if (seen.current_plus_1() != 0) found.current_log2 = static_cast<int>(current.log2_pages());
        // A heap that drains makes no slab that is not needed.
        found.has_plenty = found.free_pages > pages_now / 4u && !drains;
        return found;
    }

    /// Brings a cursor that wants one its next slab, while there is still something in the present one. `seen` is the
    /// cursor as the caller found it. Nobody waits for this: who empties the present slab meanwhile brings another.
    CUDA_ZSTD_RARE void prepare(PassedEnv<Env> env, unsigned size_class, unsigned station, std::uint64_t seen_raw,
                                Haste haste) const {
        atom<std::uint64_t>& cursor = cursor_of(size_class, station);
        const Cursor seen{seen_raw};
        const SlabList<Env> list = list_of(size_class, station);
        const Look now = look(env, cursor, list, seen);
        if (now.is_late || (!now.has_plenty && list.seems_empty(now.list))) return;
        stations.begin_move(env);
        const std::uint32_t slab = next_slab(env, list, now, size_class, 1, haste);
        if (slab != no_slab) {
            std::uint64_t expected = seen_raw;
            const Cursor ready = Cursor::of(seen.current_plus_1(), slab + 1u);
            if (env.compare_exchange(cursor, expected, ready.raw, Order::acq_rel)) {
                published(env, slab);
            } else {
                settle(env, slab); // others were faster
            }
        }
        stations.end_move(env);
    }

    /// A slab to follow the present one, held by the caller: from the list, or of pages that nobody is short of. Where
    /// groups waited, a slab of the list that is empty and much too small makes room for a larger one.
    CUDA_ZSTD_INLINE std::uint32_t next_slab(Env& env, const SlabList<Env>& list, const Look& now, unsigned size_class,
                                             std::uint32_t want, Haste haste) const {
        const std::uint32_t slab = list.pop(env, now.list);
        if (!now.has_plenty) return slab;
        const std::uint32_t log2_pages = this->size_after(size_class, now.current_log2, want, haste, now.free_pages);
        if (slab != no_slab && (haste == Haste::none || !makes_room(env, slab, log2_pages))) return slab;
        return this->make_slab(env, size_class, log2_pages, 0).slab;
    }
    /// Lets go of a held slab that is empty and much smaller than one that may be made instead.
    CUDA_ZSTD_HD bool makes_room(Env& env, std::uint32_t slab, std::uint32_t log2_pages) const {
        const SlabWord now = word(env, slab);
        if (!now.all_free() || now.log2_pages() + much_smaller_log2 > log2_pages) return false;
        settle(env, slab);
        return true;
    }
    /// An empty slab is replaced by one of at least 2^2 times its size: less is not worth the work.
    static constexpr unsigned much_smaller_log2 = 2;

    static CUDA_ZSTD_INLINE SlabGrant refused(Status status) {
        return SlabGrant{0, static_cast<std::uint32_t>(status), 0};
    }

    /// Reserves in a slab in reach, if it has credits of the class. `in_debt` becomes true if it has less than none:
    /// then a group has taken more than there was and will give back what it did not get.
    CUDA_ZSTD_HD SlabGrant from_slab(Env& env, std::uint32_t slab_plus_1, unsigned size_class, std::uint32_t want,
                                     bool& in_debt) const {
        if (slab_plus_1 == 0) return refused(Status::contended);
        const std::int32_t credits = word(env, slab_plus_1 - 1u).credits();
        in_debt |= credits < 0;
        return credits > 0 ? reserve(env, slab_plus_1 - 1u, size_class, want) : refused(Status::contended);
    }
    CUDA_ZSTD_RARE SlabGrant reserve(PassedEnv<Env> env, std::uint32_t slab, unsigned size_class,
                                     std::uint32_t want) const {
        std::uint32_t returned = 0;
        SlabGrant grant = slabs.reserve(env, slab, size_class, want, returned);
        if (returned != 0) this->give_back(env, slab, returned);
        if (grant.count == 0) grant = refused(Status::contended);
        return grant;
    }

    /// The cursor's next slab becomes the present one.
    CUDA_ZSTD_RARE SlabGrant move_on(PassedEnv<Env> env, atom<std::uint64_t>& cursor, Cursor seen, unsigned size_class,
                                     unsigned station, std::uint32_t want, Haste haste) const {
        SlabGrant grant = refused(Status::contended);
        if (env.load(cursor, Order::relaxed) != seen.raw) return grant;
        const Cursor moved = Cursor::of(seen.next_plus_1(), 0);
        std::uint64_t expected = seen.raw;
        stations.begin_move(env);
        if (!env.compare_exchange(cursor, expected, moved.raw, Order::acq_rel)) {
            stations.cancel_move(env);
            return grant;
        }
        grant = reserve(env, seen.next_plus_1() - 1u, size_class, want);
        if (seen.current_plus_1() != 0) settle(env, seen.current_plus_1() - 1u);
        stations.end_move(env);
        // Those who have to wait need the next one at once; else whoever passes the present one's half prepares it.
        if ((haste == Haste::waited || !word(env, seen.next_plus_1() - 1u).is_mostly_free()))
            prepare(env, size_class, station, moved.raw, haste);
        return grant;
    }

    /// Whether there may be a slab to bring: false is a proof that there was none, in no list and of no page, when this
    /// call looked there. Cost: three loads, and one for each station if the class has slabs elsewhere.
    CUDA_ZSTD_RARE bool may_bring_slab(PassedEnv<Env> env, unsigned size_class, unsigned station) const {
        if (!list_of(size_class, station).is_empty(env) || pages.may_have(env, 1)) return true;
        if (!this->has_listed(env, size_class)) return false;
        for (unsigned other = 0; other < stations.count; ++other)
            if (!list_of(size_class, other).is_empty(env)) return true;
        return false;
    }

    /// For a cursor with neither credits nor a next slab: another slab, else what there is elsewhere. A slab that
    /// nothing replaces leaves its cursor, so that nobody goes on subtracting from it.
    CUDA_ZSTD_RARE SlabGrant bring(PassedEnv<Env> env, atom<std::uint64_t>& cursor, Cursor seen, unsigned size_class,
                                   unsigned station, std::uint32_t want, Haste haste) const {
        if (seen.current_plus_1() == 0 && !may_bring_slab(env, size_class, station))
            return search(env, size_class, station, want);
        SlabGrant grant = refused(Status::contended);
        if (!this->begin_to_bring(env, cursor, seen)) return grant;
        const std::uint32_t slab = acquire_slab(env, seen.made_busy(), size_class, station, want, haste);
        env.store(cursor, Cursor::of(slab == no_slab ? 0 : slab + 1u, 0).raw, Order::release);
        if (slab != no_slab) {
            grant = reserve(env, slab, size_class, want);
            published(env, slab);
        }
        if (seen.current_plus_1() != 0) settle(env, seen.current_plus_1() - 1u);
        if (seen.next_plus_1() != 0) settle(env, seen.next_plus_1() - 1u); // it was set aside
        stations.end_move(env);
        return grant;
    }

    /// A held slab of a neighbor's list, where there is one: else what processors free would lie in one's list while
    /// the other makes new slabs. Cost: a load for each neighbor, all at once.
    CUDA_ZSTD_RARE std::uint32_t take_from_neighbor(PassedEnv<Env> env, unsigned size_class, unsigned station) const {
        if (stations.count == 1 || !this->has_listed(env, size_class)) return no_slab;
        const unsigned asked = pages.has_far(env) ? this->far_station() : stations.count;
        unsigned neighbors[neighbors_asked];
        std::uint32_t used = 0;
        for (unsigned ahead = 0; ahead < neighbors_asked; ++ahead) {
            neighbors[ahead] = (station + 1u + ahead) % asked;
            const auto head = env.load(*list_of(size_class, neighbors[ahead]).head, Order::relaxed);
            used |= (static_cast<std::uint32_t>(head) != 0 ? 1u : 0u) << ahead;
        }
        std::uint32_t slab = no_slab;
        for (; slab == no_slab && used != 0; used &= used - 1u)
            slab = list_of(size_class, neighbors[lowest_bit(used)]).pop(env);
        return slab;
    }
    static constexpr unsigned neighbors_asked = 8;

    /// A held slab of the class: from this station's list, else made of free pages, else from another station's list.
    /// Where pages are not plenty, neighbors' lists come before pages.
    CUDA_ZSTD_RARE std::uint32_t acquire_slab(PassedEnv<Env> env, Cursor seen, unsigned size_class, unsigned station,
                                              std::uint32_t want, Haste haste) const {
        const SlabList<Env> list = list_of(size_class, station);
        const Look now = look(env, cursor_of(size_class, station), list, seen);
        std::uint32_t slab = next_slab(env, list, now, size_class, want, haste);
        if (slab == no_slab && !now.has_plenty) {
            slab = take_from_neighbor(env, size_class, station);
            if (slab == no_slab)
                slab = this->make_slab(env, size_class,
                                       this->size_after(size_class, now.current_log2, want, haste, now.free_pages), 0)
                           .slab;
        }
        if (slab != no_slab || !this->has_listed(env, size_class)) return slab;
        for (unsigned other = 0; slab == no_slab && other < stations.count; ++other)
            slab = list_of(size_class, other).pop(env);
        return slab;
    }

    /// Reserves in a slab that some processor's cursor has, from this processor's on.
    CUDA_ZSTD_RARE SlabGrant from_cursors(PassedEnv<Env> env, unsigned size_class, unsigned station, std::uint32_t want,
                                          bool& in_debt) const {
        SlabGrant grant = refused(Status::contended);
        unsigned other = station;
        for (unsigned left = stations.count; left != 0 && grant.count == 0; --left) {
            const Cursor seen{env.load(cursor_of(size_class, other), Order::acquire)};
            other = other + 1 < stations.count ? other + 1 : 0;
            if (seen.raw == 0) continue;
            grant = from_slab(env, seen.current_plus_1(), size_class, want, in_debt);
            if (grant.count == 0) grant = from_slab(env, seen.next_plus_1(), size_class, want, in_debt);
        }
        return grant;
    }

    /// The last resort, when there is no slab to bring: the other cursors, then the empty slabs of other classes.
    /// Refused with `full` only if nothing moved from before the first look to after the last.
    CUDA_ZSTD_RARE SlabGrant search(PassedEnv<Env> env, unsigned size_class, unsigned station,
                                    std::uint32_t want) const {
        const std::uint64_t before = stations.all_moves(env);
        if (Stations::any_under_way(before) || may_bring_slab(env, size_class, station)) {
            // A reclaim may take longer than all turns of a request, and ends with what the request wants.
            if (!pages.may_have(env, 1)) this->await_reclaim(env);
            return refused(Status::contended);
        }
        // Empty slabs come before the slots that other processors are using.
        if (this->reclaim(env, this->enough_pages(env))) return refused(Status::contended);
        bool somebody_inside = false;
        if (this->has_listed(env, size_class)) {
            const SlabGrant grant = from_cursors(env, size_class, station, want, somebody_inside);
            if (grant.count != 0) return grant;
        }
        if (somebody_inside || this->reclaim(env, this->enough_pages(env)) || stations.all_moves(env) != before)
            return refused(Status::contended);
        return refused(Status::full);
    }
};

} // namespace cuda_zstd
