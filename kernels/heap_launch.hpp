// SPDX-License-Identifier: MIT
// Launchers of the heap's own kernels, for either backend.
// Invariant: each returns at once; its work is done in `stream` order.
#pragma once

#include "cuda_zstd/heap/heap_report.hpp"
#include "cuda_zstd/heap/layout.hpp"
#include "cuda_zstd/host/backend.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// A heap to work on: its arena and layout.
struct HeapArena {
    void* base;
    HeapLayout layout;
};

/// Makes the arena an empty heap: all metadata written, no page touched.
void launch_heap_setup(Backend& backend, cudaStream_t stream, const HeapArena& heap);

/// Returns the pages of empty slabs. Other streams may allocate and free meanwhile.
void launch_reclaim(Backend& backend, cudaStream_t stream, const HeapArena& heap);

/// Bytes of device memory that a survey works in.
std::size_t survey_work_bytes();

/// Writes a report to `report` (pinned memory), `sequence` last. Calls with the same `work` or `report` must be
/// ordered.
void launch_survey(Backend& backend, cudaStream_t stream, const HeapArena& heap, void* work, HeapReport* report,
                   std::uint64_t sequence);

namespace detail {
// The backends' versions.
void setup_on_cuda(cudaStream_t stream, const HeapArena& heap);
void reclaim_on_cuda(cudaStream_t stream, const HeapArena& heap);
void survey_on_cuda(cudaStream_t stream, const HeapArena& heap, void* work, HeapReport* report, std::uint64_t sequence);
void setup_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap);
void reclaim_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap);
void survey_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap, HeapReport* report,
                    std::uint64_t sequence);
} // namespace detail

} // namespace cuda_zstd
