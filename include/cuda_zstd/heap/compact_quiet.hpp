// SPDX-License-Identifier: MIT
// Compaction of a heap at rest: all its lists are made anew, in order, by passes over the metadata.
//
// Invariant: nobody allocates or frees from the first step to the last. The steps are shared out over any number of
// workers; between two steps all of them must be done, and what a step wrote must be visible to the next. The steps
// before the last one write to the work area alone, and the last one reads nothing of the heap that it changes for
// another worker: so wherever a compaction breaks off between two steps, the heap is as it was.
//
// Nothing is read of the lists as they were: a slab's word says whether it is in reach, which at rest is in a cursor or
// on a list. Afterwards each station of a class has every n-th of its slabs, the fullest first. Slabs in cursors stay
// where they are if they are at least half full, so that a kernel goes on where the last one stopped; the others join
// the lists. A slab in reach without free slots leaves the lists, as it would when somebody came upon it.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/heap/compact_order.hpp"
#include "cuda_zstd/heap/compact_state.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstdint>

namespace cuda_zstd {

template <class Env>
class QuietCompaction {
public:
    template <class T>
    using atom = typename Env::template atom<T>;

    CUDA_ZSTD_HD QuietCompaction(const Heap<Env>& heap, const CompactionWork& work)
        : supply_(heap.supply()), work_(work) {}

    /// Cells of the stations of all classes: the number of items of keep() and at least that of apply().
    CUDA_ZSTD_HD std::uint32_t station_cells() const { return size_class_count * supply_.stations.count; }

    /// Whether a rank is a place in the order of a class: then its holder is counted in CompactionState::ranked.
    static CUDA_ZSTD_INLINE bool is_place(std::uint16_t rank) { return rank < full; }

    /// Step 1, for each page: what is to become of the slab that begins there, unless a cursor keeps it. The callers
    /// count those with a place by class. Cost: a load.
    CUDA_ZSTD_HD std::uint16_t rank(Env& env, std::uint32_t page) const {
        const SlabWord word{env.load(supply_.slabs.words[page], Order::relaxed)};
        std::uint16_t rank = SlabRank::none;
        if (word.is_slab() && word.listed()) {
            if (word.all_free())
                rank = empty;
            else if (word.credits() <= 0)
                rank = full;
            else // what is to drain is used last
                rank = supply_.pages.is_far(env, page) ? SlabRank::last_of(word) : SlabRank::of(word);
        }
        work_.slabs()[page] = page;
        work_.ranks()[page] = rank;
        return rank;
    }

    /// Step 2, for each cell: marks what the cursor keeps. Cost: a load for the cursor and each of its slabs.
    CUDA_ZSTD_HD void keep(Env& env, std::uint32_t cell) const {
        const unsigned size_class = cell / supply_.stations.count;
        const Cursor seen{env.load(supply_.cursor_of(size_class, cell % supply_.stations.count), Order::relaxed)};
        const std::uint32_t held[2] = {seen.current_plus_1(), seen.next_plus_1()};
        std::uint32_t count = 0;
        for (const std::uint32_t slab_plus_1 : held) {
            if (slab_plus_1 == 0 || !is_half_full(supply_.word(env, slab_plus_1 - 1u))) continue;
            std::uint16_t& rank = work_.ranks()[slab_plus_1 - 1u]; // nobody else's: a slab is in one cursor
            if (is_place(rank)) env.fetch_sub(work_.state().ranked[size_class], 1u, Order::relaxed);
            rank = kept;
            ++count;
        }
        if (count != 0) env.fetch_add(work_.state().in_cursor[size_class], count, Order::relaxed);
    }

    // Between steps 2 and 3 whoever runs them sorts `slabs` by `ranks` into `sorted_slabs` and `sorted_ranks`.

    /// Step 3, for each index below the larger of page_count and station_cells(): all that changes the heap. The link
    /// behind the slab with that number in the order, the cursor and the list of that station, and the end of the slab
    /// at that page if it is empty. Returns the pages that became free, which the callers add up (add_free_pages).
    /// `begin_of`: for each class the sum of `ranked` of those before it, with one entry more.
    CUDA_ZSTD_HD std::uint32_t apply(Env& env, std::uint32_t index, const std::uint32_t* begin_of) const {
        const std::uint32_t stations = supply_.stations.count;
        const std::uint32_t* const slabs = work_.sorted_slabs();
        if (index < begin_of[size_class_count]) {
            const std::uint32_t end = begin_of[SlabRank::size_class(work_.sorted_ranks()[index]) + 1];
            const std::uint32_t below = end - index > stations ? slabs[index + stations] + 1u : 0u;
            env.store(supply_.next[slabs[index]], below, Order::relaxed);
        }
        if (index < station_cells()) {
            const unsigned size_class = index / stations;
            const std::uint32_t first = begin_of[size_class] + index % stations;
            fill_station(env, size_class, index % stations, first < begin_of[size_class + 1] ? slabs[first] + 1u : 0u);
        }
        if (index < size_class_count)
            env.store(supply_.stations.template listed_count<Env>(index),
                      begin_of[index + 1] - begin_of[index] + env.load(work_.state().in_cursor[index], Order::relaxed),
                      Order::relaxed);
        return index < work_.page_count ? let_go(env, index) : 0u;
    }
    /// The end of step 3, for the sums of a group of workers.
    CUDA_ZSTD_HD void add_free_pages(Env& env, std::uint32_t slabs, std::uint32_t pages) const {
        if (pages == 0) return;
        const auto& map = supply_.pages;
        const std::uint32_t before = env.fetch_add(*map.free_count, pages, Order::relaxed);
        if (before < env.load(*map.least_free, Order::relaxed)) env.fetch_min(*map.least_free, before, Order::relaxed);
        env.fetch_add(work_.state().retired_slabs, slabs, Order::relaxed);
    }

private:
    // Ranks behind all places.
    static constexpr std::uint16_t kept = SlabRank::none - 1;  ///< stays in its cursor
    static constexpr std::uint16_t empty = SlabRank::none - 2; ///< to be retired
    static constexpr std::uint16_t full = SlabRank::none - 3;  ///< in reach without a free slot: to be unlisted
    static_assert((size_class_count << SlabRank::share_bits) <= full);

    static CUDA_ZSTD_HD bool is_half_full(SlabWord word) {
        if (word.credits() <= 0) return true;
        return static_cast<std::uint32_t>(word.credits()) * slot_bytes_of(word.size_class()) <=
               (page_bytes / 2 << word.log2_pages());
    }

    /// A station has what its cursor keeps, and its part of the class's order.
    CUDA_ZSTD_HD void fill_station(Env& env, unsigned size_class, unsigned station, std::uint32_t top) const {
        atom<std::uint64_t>& cursor = supply_.cursor_of(size_class, station);
        const Cursor seen{env.load(cursor, Order::relaxed)};
        const std::uint32_t held[2] = {seen.current_plus_1(), seen.next_plus_1()};
        std::uint32_t stays[2] = {0, 0};
        unsigned count = 0;
        for (const std::uint32_t slab_plus_1 : held)
            if (slab_plus_1 != 0 && work_.ranks()[slab_plus_1 - 1u] == kept) stays[count++] = slab_plus_1;
        env.store(cursor, Cursor::of(stays[0], stays[1]).raw, Order::relaxed);
        atom<std::uint64_t>& head = *supply_.list_of(size_class, station).head;
        const std::uint64_t counter = (env.load(head, Order::relaxed) >> 32) + 1;
        env.store(head, counter << 32 | top, Order::relaxed);
    }

    /// Ends the slab at a page, or takes it out of reach, if its rank says so. Returns the pages that became free.
    CUDA_ZSTD_HD std::uint32_t let_go(Env& env, std::uint32_t slab) const {
        const std::uint16_t rank = work_.ranks()[slab];
        if (rank != empty && rank != full) return 0;
        const SlabWord word{env.load(supply_.slabs.words[slab], Order::relaxed)};
        const SlabWord left = rank == empty ? word.retired() : SlabWord{word.raw & ~SlabWord::listed_bit};
        env.store(supply_.slabs.words[slab], left.raw, Order::relaxed);
        if (rank == full) return 0;
        const std::uint32_t end = slab + word.pages();
        for (std::uint32_t page = slab; page < end; ++page)
            env.store(supply_.entries[page], 0u, Order::relaxed);
        for (std::uint32_t page = slab; page < end;) {
            const std::uint32_t in_word = 32u - page % 32u;
            const std::uint32_t count = end - page < in_word ? end - page : in_word;
            env.fetch_or(supply_.pages.bits[page / 32u], low_bits(count) << (page % 32u), Order::relaxed);
            page += count;
        }
        return word.pages();
    }

    const SlabSupply<Env>& supply_;
    CompactionWork work_;
};

} // namespace cuda_zstd
