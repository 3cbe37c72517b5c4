// SPDX-License-Identifier: MIT
// Compaction of a heap at rest: all its lists are made anew, in order, by passes over the metadata.
//
// Invariant: nobody allocates or frees from the first step to the last. The steps are shared out over any number of
// workers; between two steps all of them must be done, and what a step wrote must be visible to the next. Nothing is
// read of the lists as they were: a slab's word says whether it is to be listed, since at rest every slab with credits
// is in reach. Afterwards each station of a class has every n-th of its slabs, the fullest first.
//
// Slabs in cursors stay where they are if they are at least half full, so that a kernel goes on where the last one
// stopped; the others join the lists. `next` of a slab that stays holds `in_cursor`; when it leaves the cursor it is
// pushed on a list, retired or unlisted, and the first of these writes the link.
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
        : heap_(heap), supply_(heap.supply()), work_(work) {}

    /// Cells of the stations of all classes: the number of items of empty_cursor and at least that of link.
    CUDA_ZSTD_HD std::uint32_t station_cells() const { return size_class_count * supply_.stations.count; }

    /// Step 1, for each cell: takes what is sparse or empty out of the cursor. Cost: a load for the cursor and each of
    /// its slabs.
    CUDA_ZSTD_HD void empty_cursor(Env& env, std::uint32_t cell) const {
        const unsigned size_class = cell / supply_.stations.count;
        atom<std::uint64_t>& cursor = supply_.cursor_of(size_class, cell % supply_.stations.count);
        const Cursor seen{env.load(cursor, Order::relaxed)};
        const std::uint32_t held[2] = {seen.current_plus_1(), seen.next_plus_1()};
        std::uint32_t stays[2] = {0, 0};
        std::uint32_t count = 0;
        for (const std::uint32_t slab_plus_1 : held) {
            if (slab_plus_1 == 0) continue;
            const bool kept = is_half_full(supply_.word(env, slab_plus_1 - 1u));
            env.store(supply_.next[slab_plus_1 - 1u], kept ? in_cursor : 0u, Order::relaxed);
            if (kept) stays[count++] = slab_plus_1;
        }
        if (count != 0) env.fetch_add(work_.state().in_cursor[size_class], count, Order::relaxed);
        env.store(cursor, Cursor::of(stays[0], stays[1]).raw, Order::relaxed);
    }

    /// What step 2 found at a page.
    struct Found {
        std::uint16_t rank = SlabRank::none;
        std::uint32_t freed_pages = 0; ///< of a slab that was retired: to be added to the count of free pages
    };
    /// Step 2, for each page: retires the slab that begins there if it is empty, else ranks it. The callers add up
    /// `freed_pages` (add_free_pages) and count slabs with a rank by class (CompactionState::ranked). Cost: two loads;
    /// for a slab that is retired a store for each page.
    CUDA_ZSTD_HD Found rank(Env& env, std::uint32_t page) const {
        Found found;
        const SlabWord word{env.load(supply_.slabs.words[page], Order::relaxed)};
        if (word.is_slab() && word.all_free()) {
            retire(env, page, word);
            found.freed_pages = word.pages();
        } else if (word.is_slab() && word.credits() > 0 && env.load(supply_.next[page], Order::relaxed) != in_cursor) {
            // What is to drain is used last.
            found.rank = supply_.pages.is_far(env, page) ? SlabRank::last_of(word) : SlabRank::of(word);
        }
        work_.slabs()[page] = page;
        work_.ranks()[page] = found.rank;
        return found;
    }
    /// The end of step 2, for the sum of a group of workers.
    CUDA_ZSTD_HD void add_free_pages(Env& env, std::uint32_t slabs, std::uint32_t pages) const {
        if (pages == 0) return;
        const auto& map = supply_.pages;
        const std::uint32_t before = env.fetch_add(*map.free_count, pages, Order::relaxed);
        if (before < env.load(*map.least_free, Order::relaxed)) env.fetch_min(*map.least_free, before, Order::relaxed);
        env.fetch_add(work_.state().retired_slabs, slabs, Order::relaxed);
    }

    // Between steps 2 and 3 whoever runs them sorts `slabs` by `ranks` into `sorted_slabs` and `sorted_ranks`.

    /// Step 3, for each index below the larger of page_count and station_cells(): the link behind the slab with that
    /// number in the order, and the head of that station. `begin_of`: for each class the sum of `ranked` of those
    /// before it, with one entry more.
    CUDA_ZSTD_HD void link(Env& env, std::uint32_t index, const std::uint32_t* begin_of) const {
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
            const std::uint32_t top = first < begin_of[size_class + 1] ? slabs[first] + 1u : 0u;
            atom<std::uint64_t>& head = *supply_.list_of(size_class, index % stations).head;
            const std::uint64_t counter = (env.load(head, Order::relaxed) >> 32) + 1;
            env.store(head, counter << 32 | top, Order::relaxed);
        }
        if (index < size_class_count)
            env.store(supply_.stations.template listed_count<Env>(index),
                      begin_of[index + 1] - begin_of[index] + env.load(work_.state().in_cursor[index], Order::relaxed),
                      Order::relaxed);
    }

private:
    static constexpr std::uint32_t in_cursor = 0xffffffffu; // no link: slabs are numbered from 1 there

    static CUDA_ZSTD_HD bool is_half_full(SlabWord word) {
        if (word.credits() <= 0) return true;
        return static_cast<std::uint32_t>(word.credits()) * slot_bytes_of(word.size_class()) <=
               (page_bytes / 2 << word.log2_pages());
    }

    /// The pages of an empty slab become free; the caller adds them to the count.
    CUDA_ZSTD_HD void retire(Env& env, std::uint32_t slab, SlabWord word) const {
        env.store(supply_.slabs.words[slab], word.retired().raw, Order::relaxed);
        const std::uint32_t end = slab + word.pages();
        for (std::uint32_t page = slab; page < end; ++page)
            env.store(supply_.entries[page], 0u, Order::relaxed);
        for (std::uint32_t page = slab; page < end;) {
            const std::uint32_t in_word = 32u - page % 32u;
            const std::uint32_t count = end - page < in_word ? end - page : in_word;
            env.fetch_or(supply_.pages.bits[page / 32u], low_bits(count) << (page % 32u), Order::relaxed);
            page += count;
        }
    }

    const Heap<Env>& heap_;
    const SlabSupply<Env>& supply_;
    CompactionWork work_;
};

} // namespace cuda_zstd
