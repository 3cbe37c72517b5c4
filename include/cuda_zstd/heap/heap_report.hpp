// SPDX-License-Identifier: MIT
// The state of a device pool as compaction publishes it.
// Invariant: plain data; a report is complete when `sequence` is the number that its publisher was given, which is
// written last.
#pragma once

#include <cstdint>

namespace cuda_zstd {

struct HeapReport {
    std::uint64_t sequence = 0;   ///< 0: never published
    std::uint64_t heap_bytes = 0; ///< pages that blocks can be made of
    std::uint64_t live_bytes = 0; ///< slots and runs handed out, whole
    std::uint64_t live_blocks = 0;
    std::uint64_t page_bytes_in_use = 0; ///< pages that slabs and runs occupy
    std::uint64_t peak_page_bytes = 0;   ///< the most that ever were
    std::uint64_t free_page_bytes = 0;
    std::uint64_t free_slot_bytes = 0;    ///< free slots of slabs in use
    std::uint64_t largest_free_bytes = 0; ///< longest run of free pages
    std::uint32_t slabs = 0;
    std::uint32_t empty_slabs = 0;
    std::uint32_t failed_allocations = 0;
    std::uint32_t first_failed_bytes = 0;
    std::uint32_t invalid_frees = 0;
    std::uint32_t double_frees = 0;

    /// 1 - largest free run / free pages; 0 when no page is free.
    double fragmentation() const {
        return free_page_bytes == 0
                   ? 0.0
                   : 1.0 - static_cast<double>(largest_free_bytes) / static_cast<double>(free_page_bytes);
    }
};

} // namespace cuda_zstd
