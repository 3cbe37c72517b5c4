// SPDX-License-Identifier: MIT
// Making a heap: what an arena's metadata hold before the first allocation.
// Invariant: with all metadata zero beforehand, every page is free, every station empty and every count that of
// nothing.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/heap/heap.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cstdint>

namespace cuda_zstd {

/// The share of one of `workers` in making an arena, whose metadata are all zero, an empty heap.
template <class Env>
CUDA_ZSTD_HD void format_heap(Env& env, void* arena, const HeapLayout& layout, std::uint32_t worker,
                              std::uint32_t workers) {
    char* const base = static_cast<char*>(arena);
    const Heap<Env> heap = Heap<Env>::over(arena, layout);
    auto* const page_bits =
        reinterpret_cast<typename Env::template atom<std::uint32_t>*>(base + layout.page_bits_offset);
    for (std::uint32_t word = worker; word < layout.page_words(); word += workers)
        env.store(page_bits[word],
                  low_bits(layout.page_count - word * 32u < 32u ? layout.page_count - word * 32u : 32u),
                  Order::relaxed);
    if (worker != 0) return;
    env.store(heap.control(ControlCell::free_pages), layout.page_count, Order::relaxed);
    env.store(heap.control(ControlCell::least_free_pages), layout.page_count, Order::relaxed);
    env.store(heap.control(ControlCell::mapped_pages), layout.page_count, Order::relaxed);
    static_assert(sizeof(SlabSupply<Env>) <= control_bytes - supply_copy_offset);
    auto& supply = *reinterpret_cast<SlabSupply<Env>*>(base + layout.control_offset + supply_copy_offset);
    supply.pages = {page_bits,
                    &heap.control(ControlCell::free_pages),
                    &heap.control(ControlCell::least_free_pages),
                    layout.page_count,
                    0,
                    &heap.control(ControlCell::drain_words)};
    supply.slabs = {reinterpret_cast<typename Env::template atom<std::uint64_t>*>(base + layout.slab_words_offset),
                    reinterpret_cast<typename Env::template atom<std::uint32_t>*>(base + layout.slot_bits_offset)};
    supply.entries = reinterpret_cast<typename Env::template atom<std::uint32_t>*>(base + layout.page_entries_offset);
    supply.next = reinterpret_cast<typename Env::template atom<std::uint32_t>*>(base + layout.next_offset);
    supply.stations = heap.stations();
    supply.slab_log2_pages = layout.slab_log2_pages;
    supply.became_empty = &heap.control(ControlCell::became_empty);
    supply.reclaimed = &heap.control(ControlCell::reclaimed);
    supply.epoch = &heap.control(ControlCell::epoch);
    supply.sweep_mark = &heap.control(ControlCell::sweep_mark);
    supply.sweep_at = &heap.control(ControlCell::sweep_at);
}

} // namespace cuda_zstd
