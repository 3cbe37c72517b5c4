// SPDX-License-Identifier: MIT
// From the sums of a survey to the report that people read.
// Invariant: what a report says of slabs and runs is the survey's; what it says of failures and peaks is what the heap
// has counted since it was made.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/heap/compact_state.hpp"
#include "cuda_zstd/heap/free_chunks.hpp"
#include "cuda_zstd/heap/heap_report.hpp"
#include "cuda_zstd/heap/survey.hpp"

namespace cuda_zstd {

template <class Env>
CUDA_ZSTD_HD HeapReport make_report(Env& env, const Heap<Env>& heap, const CompactionState& state,
                                    const ChunkGrid& grid, const SurveyPart& part) {
    const HeapSums& sums = part.sums;
    const FreeRuns& runs = part.runs;
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
    report.partly_free_slab_bytes = std::uint64_t{sums.partly_free_pages} << page_shift;
    report.sequence = env.load(state.sequence, Order::relaxed) + 1;
    report.compactions = env.load(state.compactions, Order::relaxed);
    report.retired_slabs = env.load(state.retired_slabs, Order::relaxed);
    report.chunk_bytes = std::uint64_t{grid.chunk_pages} << page_shift;
    report.chunks = grid.count();
    report.free_chunks = env.load(state.free_chunks, Order::relaxed);
    for (unsigned index = 0; index < size_class_count; ++index)
        report.slabs_by_class[index] = env.load(state.by_class[index], Order::relaxed);
    for (unsigned index = 0; index < fill_class_count; ++index)
        report.slabs_by_fill[index] = env.load(state.by_fill[index], Order::relaxed);
    return report;
}

} // namespace cuda_zstd
