// SPDX-License-Identifier: MIT
// What is in a heap: a pass over its metadata.
//
// Invariant: reads only, and only cells that concurrent calls change atomically, so it may run at any time; beside
// allocations its sums are of no single moment. What one page adds, and how two parts add up, is written here once; who
// adds them (one thread, or CUB over a grid) is the caller's choice.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/heap/compact_order.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Sums over pages. Addition is associative and commutative.
struct HeapSums {
    std::uint64_t live_blocks = 0;
    std::uint64_t live_bytes = 0;        ///< slots and runs handed out, whole
    std::uint64_t free_slot_bytes = 0;   ///< free slots of slabs
    std::uint32_t partly_free_pages = 0; ///< of slabs with live and with free slots
    std::uint32_t slabs = 0;
    std::uint32_t empty_slabs = 0;
    std::uint32_t slab_pages = 0;
    std::uint32_t run_pages = 0;

    friend CUDA_ZSTD_HD HeapSums operator+(const HeapSums& a, const HeapSums& b) {
        return {a.live_blocks + b.live_blocks,
                a.live_bytes + b.live_bytes,
                a.free_slot_bytes + b.free_slot_bytes,
                a.partly_free_pages + b.partly_free_pages,
                a.slabs + b.slabs,
                a.empty_slabs + b.empty_slabs,
                a.slab_pages + b.slab_pages,
                a.run_pages + b.run_pages};
    }
};

/// What the page `page` adds: a slab or a run counts at its first page. `count_slab(size_class, fill_class)` is called
/// for a slab.
template <class Env, class CountSlab>
CUDA_ZSTD_HD HeapSums survey_page(Env& env, const Heap<Env>& heap, std::uint32_t page, const CountSlab& count_slab) {
    HeapSums sums;
    const PageEntry entry{env.load(heap.supply().entries[page], Order::relaxed)};
    if (entry.is_run()) {
        sums.run_pages = entry.run_pages();
        sums.live_blocks = 1;
        sums.live_bytes = std::uint64_t{entry.run_pages()} << page_shift;
    } else if (entry.is_slab() && entry.pages_before() == 0) {
        const SlabWord word = heap.supply().word(env, page);
        if (!word.is_slab()) return sums;
        const std::uint32_t slots = word.slots();
        const std::int32_t credits = word.credits() < 0 ? 0 : word.credits();
        const std::uint32_t free_slots = static_cast<std::uint32_t>(credits) < slots ? credits : slots;
        const std::uint64_t slot_bytes = slot_bytes_of(word.size_class());
        sums.slabs = 1;
        sums.empty_slabs = free_slots == slots ? 1 : 0;
        sums.slab_pages = word.pages();
        sums.partly_free_pages = free_slots != 0 && free_slots != slots ? word.pages() : 0;
        sums.live_blocks = slots - free_slots;
        sums.live_bytes = (slots - free_slots) * slot_bytes;
        sums.free_slot_bytes = free_slots * slot_bytes;
        count_slab(word.size_class(), fill_class_of(slots - free_slots, slots));
    }
    return sums;
}

/// Runs of free pages in a stretch of the page map. Joining two adjacent stretches is associative, not commutative.
struct FreeRuns {
    std::uint32_t pages = 0;  ///< of the stretch
    std::uint32_t prefix = 0; ///< free pages that it begins with
    std::uint32_t suffix = 0; ///< free pages that it ends with
    std::uint32_t longest = 0;

    friend CUDA_ZSTD_HD FreeRuns operator+(const FreeRuns& left, const FreeRuns& right) {
        const std::uint32_t across = left.suffix + right.prefix;
        FreeRuns joined;
        joined.pages = left.pages + right.pages;
        joined.prefix = left.prefix == left.pages ? left.pages + right.prefix : left.prefix;
        joined.suffix = right.suffix == right.pages ? right.pages + left.suffix : right.suffix;
        joined.longest = left.longest > right.longest ? left.longest : right.longest;
        if (across > joined.longest) joined.longest = across;
        return joined;
    }
};

/// The runs in one word of the page map.
CUDA_ZSTD_HD inline FreeRuns survey_page_word(std::uint32_t bits) {
    if (bits == ~0u) return {32, 32, 32, 32};
    FreeRuns runs{32, lowest_bit(~bits), 31u - highest_bit(~bits), 0};
    for (; bits != 0; bits &= bits >> 1)
        ++runs.longest;
    return runs;
}

} // namespace cuda_zstd
