// SPDX-License-Identifier: MIT
// Where slots come from: cursors, lists of partly free slabs, new slabs, and empty slabs of other sizes.
//
// Invariant: a slab is in exactly one place: in one cursor, on its class's list, held by one thread, or unlisted
// because it has no credits. Only a holder pushes, unlists or retires. Whoever makes an unlisted slab's credits
// positive, by a free or by giving back what it had over-subtracted, tries to become its holder, so that no free slot
// is ever out of reach.
//
// Progress: a refill is done by one group for all that wait at its cursor; they look at it until it changes, and each
// change means that somebody was served. The refiller is a running warp, so nothing here waits for one that has not
// started; if a cursor does not change for `refill_looks` looks, a request ends in `contended`. All else is lock-free.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/heap/page_entry.hpp"
#include "cuda_zstd/heap/page_map.hpp"
#include "cuda_zstd/heap/slab.hpp"
#include "cuda_zstd/heap/slab_list.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Looks at a cursor that does not change, before a request ends in `contended`: about a quarter of a second on a GPU,
/// since a refiller may be slowed down by a tool or a debugger.
inline constexpr unsigned refill_looks = 65536;
/// Looks at a reclaim that does not end, before a request looks for itself again.
inline constexpr unsigned reclaim_looks = 65536;
/// Turns through all sources before a request ends in `contended`.
inline constexpr unsigned supply_turns = 16;

/// A station is what one processor has for one size class: its cursor and its list of slabs, two cells of 64 bits in
/// one sector. Behind the stations of the size classes come those of the page map, whose first cell is the processor's
/// rover.
struct Stations {
    char* base = nullptr;
    std::uint32_t count = 0; ///< stations of each class

    enum Part : unsigned { cursor, list };

    template <class Env>
    CUDA_ZSTD_INLINE typename Env::template atom<std::uint64_t>* cell(unsigned size_class, unsigned station,
                                                                      Part part) const {
        using Cell = typename Env::template atom<std::uint64_t>;
        // A model checker's cells are larger than half a sector.
        constexpr std::size_t stride = sizeof(Cell) > station_bytes / 2 ? sizeof(Cell) : station_bytes / 2;
        const std::size_t index = (std::size_t{size_class} * count + station) * 2 + part;
        return reinterpret_cast<Cell*>(base + index * stride);
    }
    /// The caller's: the processor's number, reduced, since numbers need not be contiguous.
    template <class Env>
    CUDA_ZSTD_INLINE unsigned here(Env& env) const {
        const unsigned processor = env.processor();
        return processor < count ? processor : processor % count;
    }
};

template <class Env>
struct SlabSupply {
    template <class T>
    using atom = typename Env::template atom<T>;

    PageMap<Env> pages;
    SlabMap<Env> slabs;
    atom<std::uint32_t>* entries; ///< one PageEntry for each page
    atom<std::uint32_t>* next;    ///< links of the lists
    Stations stations;
    std::uint32_t slab_log2_pages;     ///< the largest slab
    atom<std::uint32_t>* became_empty; ///< times that a slab got its last credit back while it was in reach
    atom<std::uint32_t>* reclaimed;    ///< became_empty as the last reclaim found it
    atom<std::uint32_t>* epoch;        ///< odd while somebody reclaims

    /// A cursor holds slab + 1 (0: none), and this bit while somebody refills it.
    static constexpr std::uint64_t refilling = std::uint64_t{1} << 32;

    CUDA_ZSTD_INLINE atom<std::uint64_t>& cursor_of(unsigned size_class, unsigned station) const {
        return *stations.cell<Env>(size_class, station, Stations::cursor);
    }
    CUDA_ZSTD_INLINE SlabList<Env> list_of(unsigned size_class, unsigned station) const {
        return {stations.cell<Env>(size_class, station, Stations::list), next};
    }
    /// Takes pages, from this station's rover on.
    CUDA_ZSTD_INLINE std::uint32_t claim_pages(Env& env, std::uint32_t count) const {
        return pages.claim(env, count, cursor_of(size_class_count, stations.here(env)), stations.count);
    }
    CUDA_ZSTD_INLINE SlabWord word(Env& env, std::uint32_t slab) const {
        return SlabWord{env.load(slabs.words[slab], Order::acquire)};
    }

    CUDA_ZSTD_HD void add_credits(Env& env, std::uint32_t slab, std::uint32_t count) const {
        const SlabWord now = slabs.add_credits(env, slab, count);
        if (now.needs_care()) take_care(env, slab, now);
    }

    /// What SlabWord::needs_care asks for: puts the slab in reach, or tells reclaimers that it is empty.
    CUDA_ZSTD_RARE void take_care(Env& env, std::uint32_t slab, SlabWord now) const {
        if (now.listed()) {
            env.fetch_add(*became_empty, 1u, Order::release);
            return;
        }
        while (now.is_slab() && !now.listed() && now.credits() > 0) {
            if (env.compare_exchange(slabs.words[slab], now.raw, now.raw | SlabWord::listed_bit, Order::acq_rel)) {
                settle(env, slab);
                return;
            }
        }
    }

    /// Reserves up to `want` slots of the class when the cursor's slab had none: brings the cursor a new slab, or finds
    /// slots elsewhere. A count of 0 comes with a Status, full or contended, in `start`.
    /// A slab in a refiller's hands shows by the mark on its cursor, so that nobody takes it for missing.
    CUDA_ZSTD_RARE SlabGrant refill(Env& env, unsigned size_class, unsigned station, std::uint32_t want) const {
        atom<std::uint64_t>& cursor = cursor_of(size_class, station);
        std::uint64_t seen = env.load(cursor, Order::acquire);
        for (unsigned look = 0; look < refill_looks; ++look) {
            const auto slab = static_cast<std::uint32_t>(seen);
            SlabGrant grant;
            if ((seen & refilling) == 0) {
                if (slab != 0 && word(env, slab - 1u).credits() > 0) {
                    grant = reserve(env, slab - 1u, size_class, want);
                    if (grant.count != 0) return grant;
                }
                grant = may_bring_slab(env, size_class, station)
                            ? bring_slab(env, cursor, seen, size_class, station, want)
                            : search(env, size_class, station, want);
                if (grant.count != 0 || grant.start != static_cast<std::uint32_t>(Status::contended)) return grant;
            }
            env.pause(look);
            const std::uint64_t now = env.load(cursor, Order::acquire);
            if (now != seen) look = 0; // others were served: the queue moves
            seen = now;
        }
        return refused(Status::contended);
    }

    /// Gives a held slab its place: retired when nobody is inside, on its list when it has credits, else unlisted.
    CUDA_ZSTD_RARE void settle(Env& env, std::uint32_t slab) const {
        SlabWord now = word(env, slab);
        for (;;) {
            if (now.all_free()) {
                if (!env.compare_exchange(slabs.words[slab], now.raw, now.retired().raw, Order::acq_rel)) continue;
                for (std::uint32_t page = slab; page < slab + now.pages(); ++page)
                    env.store(entries[page], 0u, Order::relaxed);
                pages.release(env, slab, now.pages());
                return;
            }
            if (now.credits() > 0) {
                list_of(now.size_class(), stations.here(env)).push(env, slab);
                published(env, slab);
                return;
            }
            if (env.compare_exchange(slabs.words[slab], now.raw, now.raw & ~SlabWord::listed_bit, Order::release))
                return;
        }
    }

    /// A run of whole pages for `bytes`; no_page with the reason in `status`.
    CUDA_ZSTD_RARE std::uint32_t claim_run(Env& env, std::size_t bytes, Status& status) const {
        const auto count = static_cast<std::uint32_t>((bytes + (page_bytes - 1)) >> page_shift);
        status = Status::ok;
        for (unsigned turn = 0; turn < supply_turns; ++turn) {
            const std::uint32_t before = env.load(*epoch, Order::acquire);
            const std::uint32_t page = claim_pages(env, count);
            if (page != no_page) {
                env.store(entries[page], PageEntry::of_run(count).raw, Order::relaxed);
                return page;
            }
            if (!reclaim(env) && env.load(*epoch, Order::acquire) == before) {
                status = Status::full;
                return no_page;
            }
        }
        status = Status::contended;
        return no_page;
    }

    /// Gives back the run that begins at `page`, whose entry was read as `entry`.
    CUDA_ZSTD_RARE Status release_run(Env& env, std::uint32_t page, PageEntry entry) const {
        if (!env.compare_exchange(entries[page], entry.raw, 0u, Order::acq_rel)) return Status::double_free;
        pages.release(env, page, entry.run_pages());
        return Status::ok;
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
        for (unsigned wait = 0; wait < reclaim_looks && (env.load(*epoch, Order::acquire) & 1u) != 0; ++wait)
            env.pause(wait);
        return true;
    }

    enum class Reclaim : unsigned char { idle, begun, busy };

    /// Becomes the one reclaimer (`begun`), unless no slab became empty since the last one (`idle`) or there is one.
    CUDA_ZSTD_HD Reclaim begin_reclaim(Env& env) const {
        std::uint32_t seen = env.load(*epoch, Order::acquire);
        if ((seen & 1u) != 0) return Reclaim::busy;
        const std::uint32_t mark = env.load(*became_empty, Order::acquire);
        if (env.load(*reclaimed, Order::relaxed) == mark) return Reclaim::idle;
        if (!env.compare_exchange(*epoch, seen, seen + 1u, Order::acq_rel)) return Reclaim::busy;
        env.store(*reclaimed, mark, Order::relaxed);
        return Reclaim::begun;
    }

    /// The share of one of `workers` in a reclaim that has begun: its cursors, then its lists.
    CUDA_ZSTD_HD void drain(Env& env, unsigned worker, unsigned workers) const {
        for (unsigned index = worker; index < size_class_count * stations.count; index += workers) {
            drain_cursor(env, cursor_of(index / stations.count, index % stations.count));
            drain_list(env, list_of(index / stations.count, index % stations.count));
        }
    }

    /// Ends the reclaim, after all workers are done.
    CUDA_ZSTD_HD void end_reclaim(Env& env) const { env.fetch_add(*epoch, 1u, Order::release); }

private:
    /// To be called when a slab was put where others can reach it. It may have become empty while it was held, and the
    /// reclaimer that was told so may have passed its place already. Both change `epoch`, so one of the two sees the
    /// other: either the reclaimer finds the slab, or this call sees it empty and asks for another reclaim.
    CUDA_ZSTD_HD void published(Env& env, std::uint32_t slab) const {
        env.fetch_add(*epoch, 0u, Order::acq_rel);
        if (word(env, slab).all_free()) env.fetch_add(*became_empty, 1u, Order::release);
    }

    CUDA_ZSTD_HD SlabGrant reserve(Env& env, std::uint32_t slab, unsigned size_class, std::uint32_t want) const {
        std::uint32_t returned = 0;
        const SlabGrant grant = slabs.reserve(env, slab, size_class, want, returned);
        if (returned != 0) add_credits(env, slab, returned);
        return grant;
    }

    /// A held slab of the class: from this station's list, else made of free pages, as large as they allow, else from
    /// another station's list.
    CUDA_ZSTD_HD std::uint32_t acquire_slab(Env& env, unsigned size_class, unsigned station) const {
        const std::uint32_t listed = list_of(size_class, station).pop(env);
        if (listed != SlabList<Env>::empty) return listed;
        const std::uint32_t fresh = make_slab(env, size_class);
        if (fresh != SlabList<Env>::empty) return fresh;
        for (unsigned step = 1; step < stations.count; ++step) {
            const std::uint32_t other = list_of(size_class, (station + step) % stations.count).pop(env);
            if (other != SlabList<Env>::empty) return other;
        }
        return SlabList<Env>::empty;
    }

    CUDA_ZSTD_HD std::uint32_t make_slab(Env& env, unsigned size_class) const {
        std::uint32_t log2_pages = 0;
        while (log2_pages < slab_log2_pages &&
               (page_bytes << log2_pages) < std::uint64_t{target_slots} * slot_bytes_of(size_class))
            ++log2_pages;
        for (;; --log2_pages) {
            const std::uint32_t slab = claim_pages(env, 1u << log2_pages);
            if (slab != no_page) {
                for (std::uint32_t page = 0; page < 1u << log2_pages; ++page)
                    env.store(entries[slab + page], PageEntry::of_slab(size_class, log2_pages, page).raw,
                              Order::relaxed);
                env.fetch_add(slabs.words[slab], SlabWord::birth(size_class, log2_pages), Order::release);
                return slab;
            }
            if (log2_pages == 0) return SlabList<Env>::empty;
        }
    }

    /// Whether there may be a slab to bring: false is a proof that there was none, in no list and of no page, when this
    /// call looked there. Cost: two loads if there is, else one for each station.
    CUDA_ZSTD_HD bool may_bring_slab(Env& env, unsigned size_class, unsigned station) const {
        if (!list_of(size_class, station).is_empty(env) || pages.may_have(env, 1)) return true;
        for (unsigned step = 1; step < stations.count; ++step)
            if (!list_of(size_class, (station + step) % stations.count).is_empty(env)) return true;
        return false;
    }

    /// Exchanges the cursor's exhausted slab for another and reserves in that one first. Refused with `contended` when
    /// somebody else changed the cursor, or no slab was found.
    CUDA_ZSTD_HD SlabGrant bring_slab(Env& env, atom<std::uint64_t>& cursor, std::uint64_t seen, unsigned size_class,
                                      unsigned station, std::uint32_t want) const {
        if (!env.compare_exchange(cursor, seen, seen | refilling, Order::acq_rel)) return refused(Status::contended);
        const auto slab = static_cast<std::uint32_t>(seen);
        const std::uint32_t fresh = acquire_slab(env, size_class, station);
        if (fresh == SlabList<Env>::empty) {
            env.store(cursor, seen, Order::release);
            if (slab != 0) published(env, slab - 1u);
            return refused(Status::contended);
        }
        SlabGrant grant = reserve(env, fresh, size_class, want);
        env.store(cursor, std::uint64_t{fresh} + 1u, Order::release);
        published(env, fresh);
        if (slab != 0) settle(env, slab - 1u);
        return grant.count != 0 ? grant : refused(Status::contended);
    }

    /// The last resort, when there is no slab to bring: the other cursors, then the empty slabs of other classes.
    /// Refused with `full` only if from before the first look to after the last nothing was in anybody's hands.
    CUDA_ZSTD_HD SlabGrant search(Env& env, unsigned size_class, unsigned station, std::uint32_t want) const {
        const std::uint32_t before = env.load(*epoch, Order::acquire);
        if (may_bring_slab(env, size_class, station)) return refused(Status::contended);
        // A slab that left a list or the free pages before now is in a cursor, or in its refiller's hands.
        bool in_hands = false;
        for (unsigned step = 0; step < stations.count; ++step) {
            const std::uint64_t seen =
                env.load(cursor_of(size_class, (station + step) % stations.count), Order::acquire);
            const auto slab = static_cast<std::uint32_t>(seen);
            in_hands |= (seen & refilling) != 0;
            if (slab == 0 || word(env, slab - 1u).credits() <= 0) continue;
            const SlabGrant grant = reserve(env, slab - 1u, size_class, want);
            if (grant.count != 0) return grant;
        }
        if (in_hands || reclaim(env)) return refused(Status::contended);
        return refused(env.load(*epoch, Order::acquire) == before ? Status::full : Status::contended);
    }

    static CUDA_ZSTD_INLINE SlabGrant refused(Status status) {
        return SlabGrant{0, static_cast<std::uint32_t>(status), 0};
    }

    CUDA_ZSTD_HD void drain_cursor(Env& env, atom<std::uint64_t>& cursor) const {
        std::uint64_t seen = env.load(cursor, Order::acquire);
        if (seen == 0 || (seen & refilling) != 0) return;
        const std::uint32_t slab = static_cast<std::uint32_t>(seen) - 1u;
        if (word(env, slab).all_free() && env.compare_exchange(cursor, seen, std::uint64_t{0}, Order::acq_rel))
            settle(env, slab);
    }

    /// Takes all slabs of a list off, retires the empty ones, and puts the others back together.
    CUDA_ZSTD_HD void drain_list(Env& env, const SlabList<Env>& slab_list) const {
        std::uint32_t first = SlabList<Env>::empty;
        std::uint32_t last = first;
        for (std::uint32_t slab = slab_list.pop_all(env); slab != SlabList<Env>::empty;) {
            const std::uint32_t below = env.load(next[slab], Order::relaxed);
            if (word(env, slab).all_free()) {
                settle(env, slab);
            } else {
                env.store(next[slab], first == SlabList<Env>::empty ? 0u : first + 1u, Order::relaxed);
                if (last == SlabList<Env>::empty) last = slab;
                first = slab;
            }
            slab = below == 0 ? SlabList<Env>::empty : below - 1u;
        }
        if (first != SlabList<Env>::empty) slab_list.push_chain(env, first, last);
    }
};

} // namespace cuda_zstd
