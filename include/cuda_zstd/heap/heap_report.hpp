// SPDX-License-Identifier: MIT
// The state of a device pool as compaction publishes it.
// Invariant: plain data, a whole number of 64-bit words. Beside kernels that allocate, the sums of one report are of no
// single moment; at rest they are exact.
#pragma once

#include "cuda_zstd/heap/compact_order.hpp"

#include <cstdint>

namespace cuda_zstd {

struct HeapReport {
    std::uint64_t sequence = 0;   ///< 1 for the first report of a pool, one more for each; 0: never published
    std::uint64_t heap_bytes = 0; ///< pages that blocks can be made of
    std::uint64_t live_bytes = 0; ///< slots and runs handed out, whole
    std::uint64_t live_blocks = 0;
    std::uint64_t page_bytes_in_use = 0; ///< pages that slabs and runs occupy
    std::uint64_t peak_page_bytes = 0;   ///< the most that ever were
    std::uint64_t free_page_bytes = 0;
    std::uint64_t free_slot_bytes = 0;        ///< free slots of slabs
    std::uint64_t partly_free_slab_bytes = 0; ///< pages of slabs with live and with free slots
    std::uint64_t largest_free_bytes = 0;     ///< longest run of free pages
    std::uint64_t chunk_bytes = 0;            ///< what physical memory is given back in
    std::uint32_t chunks = 0;                 ///< whole chunks that hold nothing but pages of the heap
    std::uint32_t free_chunks = 0;            ///< those of them whose pages are all free
    std::uint32_t slabs = 0;
    std::uint32_t empty_slabs = 0;
    std::uint32_t failed_allocations = 0;
    std::uint32_t first_failed_bytes = 0;
    std::uint32_t invalid_frees = 0;
    std::uint32_t double_frees = 0;
    std::uint32_t compactions = 0;                       ///< that have ended
    std::uint32_t retired_slabs = 0;                     ///< by the last compaction: empty slabs that became pages
    std::uint32_t slabs_by_class[size_class_count] = {}; ///< by size class: core/size_class.hpp
    std::uint32_t slabs_by_fill[fill_class_count] = {};  ///< by live slots: compact_order.hpp

    /// 1 - largest free run / free pages; 0 when no page is free.
    double fragmentation() const {
        return free_page_bytes == 0
                   ? 0.0
                   : 1.0 - static_cast<double>(largest_free_bytes) / static_cast<double>(free_page_bytes);
    }
    /// The part of all pages in use that is free slots: what sparse slabs hold back from other sizes.
    double free_slot_share() const {
        return page_bytes_in_use == 0 ? 0.0
                                      : static_cast<double>(free_slot_bytes) / static_cast<double>(page_bytes_in_use);
    }
};
static_assert(sizeof(HeapReport) % sizeof(std::uint64_t) == 0);

} // namespace cuda_zstd
