// SPDX-License-Identifier: MIT
// Chunks out of use: nothing new is put there, so that what lives there can be moved elsewhere.
//
// Invariant: from `empty_stations` to the end nobody but the caller's block uses the heap. A chunk that is being
// cleared has no free page, and each of its slabs is held (SlabShelf): neither a cursor nor a list has it, and a free
// finds it listed, so that it does not get there either. So an allocation lands in another chunk or fails. At the end
// the slabs get their places again, the empty ones as free pages.
//
// The steps are in the order of the members, with a barrier of the whole block before each.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstdint>

namespace cuda_zstd {

/// What an evacuation works with, in memory of the backend.
template <class Env>
struct EvacuationWork {
    template <class T>
    using atom = typename Env::template atom<T>;

    const atom<std::uint32_t>* chosen; ///< a bit for each chunk: to be cleared
    atom<std::uint32_t>* held_pages;   ///< a word for each of the page map: the free pages that are held
};

/// Adds up what lives in each chunk: `live` is in units of 16 B, plus one for a chunk that has memory. The share of one
/// of `workers`; the counts are zero before.
template <class Env>
CUDA_ZSTD_HD void survey_chunks(Env& env, const Heap<Env>& heap, std::uint32_t page_count, std::uint32_t chunk_pages,
                                typename Env::template atom<std::uint32_t>* live, std::uint32_t worker,
                                std::uint32_t workers) {
    for (std::uint32_t page = worker; page < page_count; page += workers) {
        const PageEntry entry{env.load(heap.supply().entries[page], Order::relaxed)};
        std::uint32_t units = entry.is_run() ? entry.run_pages() * (page_bytes / min_slot_bytes) : 0u;
        const SlabWord word = heap.supply().word(env, page);
        if (entry.is_slab() && entry.pages_before() == 0 && word.is_slab()) {
            const std::int32_t credits = word.credits() < 0 ? 0 : word.credits();
            units = (word.slots() - static_cast<std::uint32_t>(credits)) *
                    (slot_bytes_of(word.size_class()) / min_slot_bytes);
        }
        if (page % chunk_pages == 0 && !entry.is_away()) ++units;
        if (units != 0) env.fetch_add(live[page / chunk_pages], units, Order::relaxed);
    }
}

template <class Env>
class Evacuation {
public:
    CUDA_ZSTD_HD Evacuation(const SlabSupply<Env>& supply, std::uint32_t page_count, std::uint32_t chunk_pages,
                            const EvacuationWork<Env>& work)
        : supply_(supply), page_count_(page_count), chunk_pages_(chunk_pages), work_(work) {}

    /// Step 1: no cursor and no list has a slab any more; all that had are held.
    CUDA_ZSTD_HD void empty_stations(Env& env, std::uint32_t worker, std::uint32_t workers) const {
        const std::uint32_t stations = supply_.stations.count;
        for (std::uint32_t index = worker; index < size_class_count * stations; index += workers) {
            env.store(supply_.cursor_of(index / stations, index % stations), std::uint64_t{0}, Order::relaxed);
            supply_.list_of(index / stations, index % stations).pop_all(env);
        }
    }

    /// Step 2: slabs of chunks that stay get their places again; those of the others are held, also the full ones.
    CUDA_ZSTD_HD void hold_slabs(Env& env, std::uint32_t worker, std::uint32_t workers) const {
        for (std::uint32_t slab = worker; slab < page_count_; slab += workers) {
            SlabWord now = supply_.word(env, slab);
            if (!now.is_slab()) continue;
            const bool stays = !is_chosen(env, slab, now.pages());
            if (now.listed() && (stays || now.all_free())) {
                supply_.settle(env, slab);
            } else if (!now.listed() && !stays) {
                env.fetch_add(supply_.stations.template listed_count<Env>(now.size_class()), 1u, Order::relaxed);
                env.fetch_or(supply_.slabs.words[slab], std::uint64_t{SlabWord::listed_bit}, Order::acq_rel);
            }
        }
    }

    /// Step 3: the free pages of chunks that are to be cleared.
    CUDA_ZSTD_HD void hold_pages(Env& env, std::uint32_t worker, std::uint32_t workers) const {
        for (std::uint32_t word = worker; word < page_words(); word += workers) {
            std::uint32_t held = 0;
            if (is_chunk_chosen(env, word * 32u / chunk_pages_))
                held = env.exchange(supply_.pages.bits[word], 0u, Order::acq_rel);
            env.store(work_.held_pages[word], held, Order::relaxed);
            if (held != 0) env.fetch_sub(*supply_.pages.free_count, popcount(held), Order::release);
        }
    }

    /// Between 3 and 4: whether the block at a page of the heap is to be moved.
    CUDA_ZSTD_HD bool is_to_move(Env& env, std::uint32_t page) const {
        const PageEntry entry{env.load(supply_.entries[page], Order::relaxed)};
        if (entry.is_run()) return is_chosen(env, page, entry.run_pages());
        return entry.is_slab() && is_chosen(env, page - entry.pages_before(), 1u << entry.log2_pages());
    }

    /// Step 4: the pages that were held are free again.
    CUDA_ZSTD_HD void release_pages(Env& env, std::uint32_t worker, std::uint32_t workers) const {
        for (std::uint32_t word = worker; word < page_words(); word += workers) {
            const std::uint32_t held = env.load(work_.held_pages[word], Order::relaxed);
            if (held == 0) continue;
            env.fetch_add(*supply_.pages.free_count, popcount(held), Order::relaxed);
            env.fetch_or(supply_.pages.bits[word], held, Order::release);
        }
    }
    /// Step 5: the slabs that were held get their places.
    CUDA_ZSTD_HD void release_slabs(Env& env, std::uint32_t worker, std::uint32_t workers) const {
        for (std::uint32_t slab = worker; slab < page_count_; slab += workers) {
            const SlabWord now = supply_.word(env, slab);
            if (now.is_slab() && now.listed() && is_chosen(env, slab, now.pages())) supply_.settle(env, slab);
        }
    }

private:
    CUDA_ZSTD_INLINE std::uint32_t page_words() const { return (page_count_ + 31u) / 32u; }
    CUDA_ZSTD_INLINE bool is_chunk_chosen(Env& env, std::uint32_t chunk) const {
        return (env.load(work_.chosen[chunk / 32u], Order::relaxed) >> (chunk % 32u) & 1u) != 0;
    }
    /// Whether one of the pages lies in a chunk that is to be cleared.
    CUDA_ZSTD_HD bool is_chosen(Env& env, std::uint32_t first, std::uint32_t pages) const {
        for (std::uint32_t chunk = first / chunk_pages_; chunk <= (first + pages - 1u) / chunk_pages_; ++chunk)
            if (is_chunk_chosen(env, chunk)) return true;
        return false;
    }

    const SlabSupply<Env>& supply_;
    const std::uint32_t page_count_;
    const std::uint32_t chunk_pages_;
    const EvacuationWork<Env> work_;
};

} // namespace cuda_zstd
