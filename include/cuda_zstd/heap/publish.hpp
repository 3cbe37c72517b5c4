// SPDX-License-Identifier: MIT
// From the sums of a survey to the report that people read.
// Invariant: the report's sequence number is 0 while it is written and set last, so a reader that finds the same number
// before and after its copy has copied one whole report.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/heap/heap_report.hpp"
#include "cuda_zstd/heap/survey.hpp"

#include <cstring>

namespace cuda_zstd {

template <class Env>
CUDA_ZSTD_HD HeapReport make_report(Env& env, const Heap<Env>& heap, const HeapSums& sums, const FreeRuns& runs) {
    const auto cell = [&](ControlCell which) { return env.load(heap.control(which), Order::relaxed); };
    const std::uint64_t page_count = cell(ControlCell::mapped_pages);
    HeapReport report;
    report.heap_bytes = page_count << page_shift;
    report.live_bytes = sums.live_bytes;
    report.live_blocks = sums.live_blocks;
    report.page_bytes_in_use = std::uint64_t{sums.slab_pages + sums.run_pages} << page_shift;
    const std::uint64_t free_pages = cell(ControlCell::free_pages);
    const std::uint64_t least_free_pages = cell(ControlCell::least_free_pages);
    const std::uint64_t least_pages = free_pages < least_free_pages ? free_pages : least_free_pages;
    const std::uint64_t peak_before = cell(ControlCell::peak_pages_before);
    // Beside a change of size the counts are of different moments.
    const std::uint64_t peak_pages = page_count < least_pages ? 0 : page_count - least_pages;
    report.peak_page_bytes = (peak_pages < peak_before ? peak_before : peak_pages) << page_shift;
    report.free_page_bytes = free_pages << page_shift;
    report.free_slot_bytes = sums.free_slot_bytes;
    report.largest_free_bytes = std::uint64_t{runs.longest} << page_shift;
    report.slabs = sums.slabs;
    report.empty_slabs = sums.empty_slabs;
    report.failed_allocations = cell(ControlCell::failures);
    report.first_failed_bytes = cell(ControlCell::first_failed_bytes);
    report.invalid_frees = cell(ControlCell::invalid_frees);
    report.double_frees = cell(ControlCell::double_frees);
    return report;
}

/// Copies the report to pinned memory, where the host reads it: each word is stored with release at system
/// scope, so a reader that acquires a new word also sees the number 0 that was stored before it.
template <class Env>
CUDA_ZSTD_HD void publish_report(Env& env, HeapReport report, HeapReport* to, std::uint64_t sequence) {
    using Cell = typename Env::template atom<std::uint64_t>;
    constexpr unsigned count = sizeof(HeapReport) / sizeof(Cell);
    static_assert(sizeof(HeapReport) % sizeof(Cell) == 0);
    std::uint64_t words[count];
    memcpy(words, &report, sizeof report);
    auto* const cells = reinterpret_cast<Cell*>(to);
    env.store_for_host(cells[0], std::uint64_t{0}); // sequence is the first member
    for (unsigned index = 1; index < count; ++index)
        env.store_for_host(cells[index], words[index]);
    env.store_for_host(cells[0], sequence);
}

} // namespace cuda_zstd
