// SPDX-License-Identifier: MIT
// How slabs come to be, where they are kept, and how they end.
//
// Invariant: a slab is in exactly one place: in one cursor, on one list of its class, held by one thread, or unlisted
// because it has no credits. Only a holder pushes, unlists or retires. Whoever makes an unlisted slab's credits
// positive, by a free or by giving back what it had over-subtracted, tries to become its holder, so that no free slot
// is ever out of reach. A holder's work is a move (Stations).
//
// Progress: lock-free.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/heap/page_entry.hpp"
#include "cuda_zstd/heap/page_map.hpp"
#include "cuda_zstd/heap/slab.hpp"
#include "cuda_zstd/heap/slab_list.hpp"
#include "cuda_zstd/heap/stations.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Whether a request for a slab found that others were still being served.
enum class Haste : unsigned char { none, waited };

template <class Env>
struct SlabShelf {
    template <class T>
    using atom = typename Env::template atom<T>;

    PageMap<Env> pages;
    SlabMap<Env> slabs;
    atom<std::uint32_t>* entries; ///< one PageEntry for each page
    atom<std::uint32_t>* next;    ///< links of the lists
    Stations stations;
    std::uint32_t slab_log2_pages;     ///< the largest slab
    atom<std::uint32_t>* became_empty; ///< times that a slab with all its credits was put or found in reach

    static constexpr std::uint32_t no_slab = SlabList<Env>::empty;

    CUDA_ZSTD_INLINE atom<std::uint64_t>& cursor_of(unsigned size_class, unsigned station) const {
        return *stations.cell<Env>(size_class, station, Stations::cursor);
    }
    CUDA_ZSTD_INLINE SlabList<Env> list_of(unsigned size_class, unsigned station) const {
        return {stations.cell<Env>(size_class, station, Stations::list), next};
    }
    CUDA_ZSTD_INLINE SlabWord word(Env& env, std::uint32_t slab) const {
        return SlabWord{env.load(slabs.words[slab], Order::acquire)};
    }
    /// The processors' ways through the page map, in groups as large as the largest slab.
    CUDA_ZSTD_INLINE Rovers<Env> rovers(Env& env) const {
        const auto cell = [&](unsigned station) {
            return reinterpret_cast<char*>(stations.cell<Env>(size_class_count, station, Stations::rover));
        };
        return {cell(0), static_cast<std::size_t>(cell(1) - cell(0)), stations.here(env), stations.count,
                slab_log2_pages < 5u ? 5u : slab_log2_pages};
    }
    /// Takes adjacent pages, from this processor's rover on.
    CUDA_ZSTD_INLINE std::uint32_t claim_pages(Env& env, std::uint32_t count, ClaimEffort effort) const {
        return pages.claim(env, count, rovers(env), effort);
    }

    /// The next place of this processor's rover, for a power of two of pages of at most a group; no_page where there
    /// are pages that go first. Looks at no page.
    CUDA_ZSTD_INLINE std::uint32_t place_at_rover(Env& env, std::uint32_t count) const {
        const std::uint32_t all_pages = pages.pages_now(env);
        if (pages.near_now(env) != 0 || all_pages == 0) return no_page;
        const auto rovers = this->rovers(env);
        const std::uint32_t place = rovers.place_of(rovers.pass(env, count, 1), all_pages);
        return place + count <= all_pages ? place : no_page;
    }
    /// The same, of pages that seem to be free: no_page where they do not. Where a larger slab lies, all of its places
    /// are taken: then a place behind it.
    CUDA_ZSTD_INLINE std::uint32_t free_place_at_rover(Env& env, std::uint32_t count) const {
        const std::uint32_t all_pages = pages.pages_now(env);
        if (pages.near_now(env) != 0 || all_pages == 0) return no_page;
        const auto rovers = this->rovers(env);
        std::uint32_t at = rovers.pass(env, count, 1);
        std::uint32_t place = rovers.place_of(at, all_pages);
        if (place + count > all_pages) return no_page;
        if (pages.seems_free(env, place, count)) return place;
        const PageEntry entry{env.load(entries[place], Order::relaxed)};
        if (!entry.is_slab() || entry.log2_pages() == 0 || 1u << entry.log2_pages() <= count) return no_page;
        at = rovers.pass_from(env, at, at - entry.pages_before() + (1u << entry.log2_pages()), count);
        place = rovers.place_of(at, all_pages);
        return place + count <= all_pages && pages.seems_free(env, place, count) ? place : no_page;
    }

    /// Gives credits that a reservation did not use back to a slab that the caller does not hold.
    CUDA_ZSTD_HD void give_back(Env& env, std::uint32_t slab, std::uint32_t count) const {
        const SlabWord now = slabs.return_credits(env, slab, count);
        if (now.needs_care(count)) take_care(env, slab, now, count);
    }

    /// What SlabWord::needs_care asks for: puts the slab in reach, or tells reclaimers that it is empty.
    CUDA_ZSTD_RARE void take_care(PassedEnv<Env> env, std::uint32_t slab, SlabWord now, std::uint32_t added) const {
        if (now.listed()) {
            if (now.had_none(added)) stations.note_move(env);
            if (now.all_free()) {
                word(env, slab); // acquires what the last holder did, which a reclaimer must see: see published()
                env.fetch_add(*became_empty, 1u, Order::release);
            }
            return;
        }
        // Many see the slab unlisted before the first of them has listed it: whoever looks again mostly need not try.
        if (!now.had_none(added)) now = word(env, slab);
        if (!now.is_slab() || now.listed()) return;
        stations.begin_move(env);
        while (now.is_slab() && !now.listed() && now.credits() > 0) {
            if (now.all_free()) {
                if (!env.compare_exchange(slabs.words[slab], now.raw, now.retired().raw, Order::acq_rel)) continue;
                give_pages_back(env, slab, now.pages());
                break;
            }
            if (!env.compare_exchange(slabs.words[slab], now.raw, now.raw | SlabWord::listed_bit, Order::acq_rel))
                continue;
            // Counted before anybody can reach it, and before the move ends.
            env.fetch_add(stations.listed_count<Env>(now.size_class()), 1u, Order::relaxed);
            settle(env, slab);
            break;
        }
        stations.end_move(env);
    }

    /// Makes a cursor that was found as `seen` busy and begins the move of whoever brings it a slab. False: it is no
    /// longer so. All who wait at a cursor find it exhausted at one time, and most of them are too late by now: so it
    /// is looked at first.
    CUDA_ZSTD_INLINE bool begin_to_bring(Env& env, atom<std::uint64_t>& cursor, Cursor seen) const {
        if (env.load(cursor, Order::relaxed) != seen.raw) return false;
        std::uint64_t expected = seen.raw;
        stations.begin_move(env);
        if (env.compare_exchange(cursor, expected, seen.made_busy().raw, Order::acq_rel)) return true;
        stations.cancel_move(env);
        return false;
    }

    /// Where slabs are listed that lie behind the near pages: nobody looks there while there are near pages or slabs,
    /// but for the processor whose station it is. So their chunks drain.
    CUDA_ZSTD_INLINE unsigned far_station() const { return stations.count - 1u; }

    /// Gives a held slab its place: retired when nobody is inside, on its home's list when it has credits, else
    /// unlisted. With the list of whoever frees, a grid that frees what another has allocated would leave some
    /// processors with many slabs and some with none.
    CUDA_ZSTD_RARE void settle(PassedEnv<Env> env, std::uint32_t slab) const {
        SlabWord now = word(env, slab);
        while (now.credits() <= 0 || now.all_free()) {
            const SlabWord left = now.credits() > 0 ? now.retired() : SlabWord{now.raw & ~SlabWord::listed_bit};
            const SlabWord was = now;
            if (!env.compare_exchange(slabs.words[slab], now.raw, left.raw, Order::acq_rel)) continue;
            env.fetch_sub(stations.listed_count<Env>(was.size_class()), 1u, Order::release);
            if (!left.is_slab()) give_pages_back(env, slab, was.pages());
            return;
        }
        const unsigned station = pages.is_far(env, slab) ? far_station() : now.home();
        list_of(now.size_class(), station).push(env, slab);
        published(env, slab);
    }

    /// To be called when a slab was put where others can reach it: it may have become empty while it was held. Whoever
    /// gave it its last credit has told the reclaimers, one of which may have passed this place before the slab was
    /// here. The addition of nothing comes before or after that credit in the order of the word's changes: after it,
    /// this call sees the slab empty and tells again; before it, whoever is told sees the slab in its place.
    CUDA_ZSTD_HD void published(Env& env, std::uint32_t slab) const {
        const SlabWord now{env.fetch_add(slabs.words[slab], std::uint64_t{0}, Order::acq_rel)};
        if (now.all_free()) env.fetch_add(*became_empty, 1u, Order::release);
    }

    /// A slab that nobody waited for takes at most this part of a station's share of the free pages.
    static constexpr std::uint32_t unhurried_share = 8;
    /// A class's slabs begin with this part of it: all classes' together hold back no more than the free pages.
    static constexpr std::uint32_t first_share = 64;

    /// The size of a slab that follows one of `previous_log2` (-1: none), at least for `want` blocks if the heap has
    /// them: twice as large, eight times when it was waited for, since then they are needed faster than they come. No
    /// larger than a share of the pages that are free, a small one where nobody waited.
    CUDA_ZSTD_HD std::uint32_t size_after(unsigned size_class, int previous_log2, std::uint32_t want, Haste haste,
                                          std::uint32_t free_pages) const {
        const std::uint64_t slot_bytes = slot_bytes_of(size_class);
        const bool was_awaited = haste == Haste::waited;
        const auto grown = static_cast<std::uint32_t>(previous_log2 + (was_awaited ? 3 : 1));
        const std::uint32_t share = free_pages / (2u * stations.count);
        std::uint32_t log2_pages = 0;
        for (; log2_pages < slab_log2_pages && 2u << log2_pages <= share; ++log2_pages) {
            const std::uint64_t bytes = page_bytes << log2_pages;
            if (bytes < want * slot_bytes) continue;
            const bool may_grow = first_share << log2_pages <= share ||
                                  (log2_pages < grown && (was_awaited || unhurried_share << log2_pages <= share));
            if (!may_grow || bytes >= target_slots * slot_bytes) break;
        }
        return log2_pages;
    }

    /// The size of a slab for `want` blocks.
    CUDA_ZSTD_HD std::uint32_t size_for(unsigned size_class, std::uint32_t want) const {
        const std::uint64_t bytes = std::uint64_t{want} * slot_bytes_of(size_class);
        std::uint32_t log2_pages = 0;
        while (log2_pages < slab_log2_pages && (page_bytes << log2_pages) < bytes)
            ++log2_pages;
        return log2_pages;
    }

    /// A new slab of at most 2^log2_pages pages, smaller where those are not easily found, of which the caller has up
    /// to `want` slots, the last ones; it holds the slab if there are more. `slab` of the grant is no_slab when no page
    /// is free.
    CUDA_ZSTD_RARE SlabGrant make_slab(PassedEnv<Env> env, unsigned size_class, std::uint32_t log2_pages,
                                       std::uint32_t want) const {
        std::uint32_t slab = place_at_rover(env, 1u << log2_pages);
        if (slab != no_page && !pages.claim_at(env, slab, 1u << log2_pages)) slab = no_page;
        for (; slab == no_page; --log2_pages) {
            slab = claim_pages(env, 1u << log2_pages, log2_pages == 0 ? ClaimEffort::search : ClaimEffort::tries);
            if (slab != no_page || log2_pages == 0) break;
        }
        return slab == no_page ? SlabGrant{no_slab, 0, 0} : slab_of_pages(env, slab, size_class, log2_pages, want);
    }
    /// Makes claimed pages a slab; the rest as make_slab().
    CUDA_ZSTD_INLINE SlabGrant slab_of_pages(Env& env, std::uint32_t slab, unsigned size_class,
                                             std::uint32_t log2_pages, std::uint32_t want) const {
        atom<std::uint32_t>* const its_entries = entries + slab;
        for (std::uint32_t page = 0; page < 1u << log2_pages; ++page)
            env.store(its_entries[page], PageEntry::of_slab(size_class, log2_pages, page).raw, Order::relaxed);
        const SlabWord whole{SlabWord::birth(size_class, log2_pages, stations.here(env))};
        const std::uint32_t slots = whole.slots();
        const std::uint32_t count = want < slots ? want : slots;
        const std::uint64_t left = whole.raw - SlabWord::credit(count);
        if (count < slots) env.fetch_add(stations.listed_count<Env>(size_class), 1u, Order::relaxed);
        env.fetch_add(slabs.words[slab], count < slots ? left : left & ~SlabWord::listed_bit, Order::release);
        return {slab, slots - count, count};
    }

private:
    CUDA_ZSTD_RARE void give_pages_back(PassedEnv<Env> env, std::uint32_t slab, std::uint32_t count) const {
        for (std::uint32_t page = slab; page < slab + count; ++page)
            env.store(entries[page], 0u, Order::relaxed);
        pages.release(env, slab, count, rovers(env));
    }
};

} // namespace cuda_zstd
