// SPDX-License-Identifier: MIT
// Pages that come and go: how a heap that was laid out for its maximum gets memory behind its pages, and loses it.
//
// Invariant: a chunk is a run of pages that begins and ends with a word of the page map. It is open (its pages are the
// heap's) or away: every page's bit is clear, so that no claim can find it, and its entry is `away`, so that no free
// can. A page that a slab, a run, a cursor or a list has is not free, so a chunk that holds one cannot be taken away:
// taking is all or nothing, by the same atomics as a claim.
//
// Whoever allocates has nothing new to look at. A request that looks for pages while a chunk is opened may find them or
// not. Taking a chunk away is a move (Stations), so a request that cannot find its pages meanwhile does not take that
// for a proof that the heap is full.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstdint>

namespace cuda_zstd {

template <class Env>
class HeapChunks {
public:
    template <class T>
    using atom = typename Env::template atom<T>;

    /// `chunk_pages` is a multiple of 32.
    CUDA_ZSTD_HD HeapChunks(const Heap<Env>& heap, std::uint32_t chunk_pages)
        : heap_(heap), supply_(heap.supply()), chunk_pages_(chunk_pages) {}

    /// The share of one of `workers` in making an arena, whose mapped metadata are all zero, a heap without memory:
    /// every one of the layout's pages is away. Slot bits need not be mapped.
    static CUDA_ZSTD_HD void format(Env& env, void* arena, const HeapLayout& layout, std::uint32_t worker,
                                    std::uint32_t workers) {
        HeapLayout none = layout;
        none.page_count = 0;
        format_heap<Env>(env, arena, none, worker, workers);
        auto* const entries =
            reinterpret_cast<atom<std::uint32_t>*>(static_cast<char*>(arena) + layout.page_entries_offset);
        for (std::uint32_t page = worker; page < layout.page_count; page += workers)
            env.store(entries[page], PageEntry::away, Order::relaxed);
    }

    /// Opening, step 1, by one worker for all the chunks to be opened. The counts come first: that of free pages is
    /// never below the bits (PageMap).
    CUDA_ZSTD_HD void count_opened(Env& env, std::uint32_t chunks) const {
        keep_peak(env);
        const std::uint32_t pages = chunks * chunk_pages_;
        env.fetch_add(heap_.control(ControlCell::mapped_pages), pages, Order::relaxed);
        env.fetch_add(*supply_.pages.free_count, pages, Order::relaxed);
        env.fetch_add(*supply_.pages.least_free, pages, Order::relaxed);
    }
    /// Step 2: the share of one of `workers` in a chunk whose memory is mapped and whose slot bits are zero.
    CUDA_ZSTD_HD void clear_entries(Env& env, std::uint32_t chunk, std::uint32_t worker, std::uint32_t workers) const {
        for (std::uint32_t page = worker; page < chunk_pages_; page += workers)
            env.store(supply_.entries[chunk * chunk_pages_ + page], 0u, Order::relaxed);
    }
    /// Step 3, after all workers have done step 2: from here on the pages can be claimed.
    CUDA_ZSTD_HD void set_free(Env& env, std::uint32_t chunk, std::uint32_t worker, std::uint32_t workers) const {
        for (std::uint32_t word = first_word(chunk) + worker; word < first_word(chunk + 1); word += workers)
            env.fetch_or(supply_.pages.bits[word], ~0u, Order::release);
    }
    /// All of it by one worker.
    CUDA_ZSTD_HD void open(Env& env, std::uint32_t chunk) const {
        count_opened(env, 1);
        clear_entries(env, chunk, 0, 1);
        set_free(env, chunk, 0, 1);
    }
    /// For set_extent: none of the pages is behind, but where the heap drains, runs go to the first place still.
    static constexpr std::uint32_t near_as_it_drains = 0xffffffffu;

    /// Publishes how many pages claims look at, and which of them first (0: any): what a trim decides, with new room
    /// for searches, or after a growth `near_as_it_drains`. Calls are in stream order.
    CUDA_ZSTD_HD void set_extent(Env& env, std::uint32_t page_count, std::uint32_t near_count) const {
        const PageMap<Env>& map = supply_.pages;
        if (near_count == near_as_it_drains)
            near_count = map.near_now(env) != 0 ? page_count : 0u;
        else
            env.store(*map.drain_words, most_drain_words, Order::relaxed);
        env.store_word(const_cast<std::uint32_t&>(map.page_count), page_count, Order::relaxed);
        env.store_word(const_cast<std::uint32_t&>(map.near_count), near_count, Order::relaxed);
    }

    CUDA_ZSTD_HD std::uint32_t free_pages(Env& env) const {
        return env.load(*supply_.pages.free_count, Order::relaxed);
    }
    /// Whether every page of the chunk is free: a look that changes nothing, right at some moment of the call.
    CUDA_ZSTD_HD bool looks_free(Env& env, std::uint32_t chunk) const {
        for (std::uint32_t word = first_word(chunk); word < first_word(chunk + 1); ++word)
            if (env.load(supply_.pages.bits[word], Order::relaxed) != ~0u) return false;
        return true;
    }
    /// Remembers the peak so far, before the counts change their meaning. Beside allocations it is that of some moment.
    CUDA_ZSTD_HD void keep_peak(Env& env) const {
        const std::uint32_t mapped = env.load(heap_.control(ControlCell::mapped_pages), Order::relaxed);
        const std::uint32_t free_pages = env.load(*supply_.pages.free_count, Order::relaxed);
        const std::uint32_t least = env.load(*supply_.pages.least_free, Order::relaxed);
        const std::uint32_t lowest = free_pages < least ? free_pages : least;
        auto& peak = heap_.control(ControlCell::peak_pages_before);
        if (mapped > lowest && mapped - lowest > env.load(peak, Order::relaxed))
            env.store(peak, mapped - lowest, Order::relaxed);
        env.store(*supply_.pages.least_free, free_pages, Order::relaxed);
    }
    /// Takes a chunk away if all of its pages are free; else the heap is as before. True: nobody else can have its
    /// pages, what their last users did is visible to the caller, and whoever frees or looks up an address in them is
    /// refused. By one worker, after keep_peak; others may allocate and free meanwhile. Cost: two atomics for each 32
    /// pages.
    CUDA_ZSTD_HD bool take_away(Env& env, std::uint32_t chunk) const {
        supply_.stations.begin_move(env);
        const bool taken = take_words(env, chunk);
        if (taken) {
            env.fetch_sub(*supply_.pages.free_count, chunk_pages_, Order::release);
            env.fetch_sub(heap_.control(ControlCell::mapped_pages), chunk_pages_, Order::relaxed);
            for (std::uint32_t page = chunk * chunk_pages_; page < (chunk + 1) * chunk_pages_; ++page)
                env.store(supply_.entries[page], PageEntry::away, Order::relaxed);
        }
        supply_.stations.end_move(env);
        return taken;
    }

private:
    CUDA_ZSTD_INLINE std::uint32_t first_word(std::uint32_t chunk) const { return chunk * (chunk_pages_ / 32u); }

    CUDA_ZSTD_HD bool take_words(Env& env, std::uint32_t chunk) const {
        const std::uint32_t begin = first_word(chunk);
        for (std::uint32_t word = begin; word < first_word(chunk + 1); ++word) {
            std::uint32_t expected = ~0u;
            if (env.compare_exchange(supply_.pages.bits[word], expected, 0u, Order::acq_rel)) continue;
            while (word != begin)
                env.fetch_or(supply_.pages.bits[--word], ~0u, Order::release);
            return false;
        }
        return true;
    }

    const Heap<Env>& heap_;
    const SlabSupply<Env>& supply_;
    const std::uint32_t chunk_pages_;
};

} // namespace cuda_zstd
