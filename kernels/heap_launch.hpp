// SPDX-License-Identifier: MIT
// Set-up of a heap, and reclaim of its empty slabs, for either backend.
// Invariant: each returns at once; its work is done in `stream` order.
#pragma once

#include "cuda_zstd/heap/layout.hpp"
#include "cuda_zstd/host/backend.hpp"

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

namespace detail {
void setup_on_cuda(cudaStream_t stream, const HeapArena& heap);
void reclaim_on_cuda(cudaStream_t stream, const HeapArena& heap);
void setup_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap);
void reclaim_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap);
} // namespace detail

} // namespace cuda_zstd
