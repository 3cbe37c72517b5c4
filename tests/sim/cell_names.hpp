// SPDX-License-Identifier: MIT
// Names of a heap's cells, for traces.
#pragma once

#include "cuda_zstd/env/sim/trace.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstddef>
#include <string>

namespace cuda_zstd::test {

inline void name_heap_cells(sim::CellNames& names, char* base, const HeapLayout& layout) {
    names.clear();
    static constexpr const char* control_names[] = {"free_pages", "least_free_pages", "became_empty", "reclaimed",
                                                    "epoch",      "failures"};
    for (std::size_t i = 0; i < std::size(control_names); ++i)
        names.add(control_names[i], base + layout.control_offset + i * 128, 1, 4);
    for (unsigned size_class = 0; size_class < size_class_count; ++size_class) {
        const std::string slot = std::to_string(slot_bytes_of(size_class));
        char* const cells = base + layout.stations_offset + std::size_t{size_class} * layout.stations * station_bytes;
        names.add("cursor<" + slot + ">", cells, layout.stations, station_bytes);
        names.add("list<" + slot + ">", cells + station_bytes / 2, layout.stations, station_bytes);
    }
    names.add("slab", base + layout.slab_words_offset, layout.page_count, 8);
    names.add("next", base + layout.next_offset, layout.page_count, 4);
    names.add("entry", base + layout.page_entries_offset, layout.page_count, 4);
    names.add("page_bits", base + layout.page_bits_offset, layout.page_words(), 4);
    names.add("slot_bits", base + layout.slot_bits_offset, std::size_t{layout.page_count} * slot_words_per_page, 4);
}

} // namespace cuda_zstd::test
