// SPDX-License-Identifier: MIT
// Launchers for relocation, for either backend.
// Invariant: each returns at once; its work is done in `stream` order.
#pragma once

#include "cuda_zstd/device/pool_handle.hpp"
#include "cuda_zstd/env/atom.hpp"
#include "kernels/chunk_launch.hpp"

#include <cstdint>

namespace cuda_zstd {

/// The table of a heap's handles, in memory of the backend.
struct HandleMemory {
    Atom<std::uint64_t>* entries;
    Atom<std::uint32_t>* cells;
    std::uint32_t capacity;

    /// As kernels of either backend see it.
    template <class Env>
    CUDA_ZSTD_HD BasicHandleRef<Env> over(const HeapArena& heap) const {
        return BasicHandleRef<Env>(PoolHeap<Env>::over(heap.base, heap.layout), entries, capacity, cells);
    }
};

/// Adds up what lives in each chunk: see survey_chunks.
void launch_chunk_survey(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap, Atom<std::uint32_t>* live);
/// Moves the blocks of handles out of the chosen chunks; nobody else may use the heap meanwhile. `chosen` has a bit for
/// each chunk, `held_pages` room for a word for each of the page map.
void launch_relocation(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap, const HandleMemory& table,
                       const Atom<std::uint32_t>* chosen, Atom<std::uint32_t>* held_pages);

namespace detail {
void chunk_survey_on_cuda(cudaStream_t stream, const ChunkedHeap& heap, Atom<std::uint32_t>* live);
void relocation_on_cuda(cudaStream_t stream, const ChunkedHeap& heap, const HandleMemory& table,
                        const Atom<std::uint32_t>* chosen, Atom<std::uint32_t>* held_pages);
} // namespace detail

} // namespace cuda_zstd
