// SPDX-License-Identifier: MIT
// Launchers for heaps that grow and shrink, for either backend.
// Invariant: each returns at once; its work is done in `stream` order. Launches that open or take chunks of one heap
// are ordered one behind the other by the caller.
#pragma once

#include "cuda_zstd/env/atom.hpp"
#include "kernels/heap_launch.hpp"

#include <cstdint>

namespace cuda_zstd {

/// A heap that was laid out for its maximum, in chunks of so many pages.
struct ChunkedHeap {
    HeapArena heap;
    std::uint32_t chunk_pages;
};

/// Chunks of one launch: they travel by value in its parameters.
inline constexpr std::uint32_t most_batch_chunks = 256;
struct ChunkBatch {
    std::uint32_t count = 0;
    std::uint32_t chunks[most_batch_chunks] = {};
};

/// What claims look at: so many pages, and of these the first `near_pages` before the others (0: any).
struct ClaimExtent {
    /// After a growth: none of the pages is behind, but where the heap drains, runs go to the first place still.
    static constexpr std::uint32_t near_as_it_drains = 0xffffffffu;

    std::uint32_t pages = 0;
    std::uint32_t near_pages = 0;
};

/// What became of a chunk that was to be taken away.
enum class ChunkState : std::uint32_t {
    in_use, ///< a page of it is not free
    free,   ///< left alone: there were as many as were wanted
    away
};

/// What a host without synchronization needs in order to decide on a heap's size.
struct HeapPulse {
    std::uint64_t sequence = 0; ///< 0: never published, or being written
    std::uint64_t failures = 0;
    std::uint64_t first_failed_bytes = 0;
    std::uint64_t mapped_pages = 0;
    std::uint64_t free_pages = 0;
};

/// Makes the arena a heap without memory. Its metadata are mapped, but for the slot bits, and zero.
void launch_chunk_setup(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap);
/// Makes the pages of mapped chunks free, and `extent` what claims look at. The batch may be empty.
void launch_chunk_open(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap, const ChunkBatch& batch,
                       const ClaimExtent& extent);
/// Takes away the first `most` chunks of `order` whose pages are all free, in its order, and tells what became of each
/// of the `count` in `states`, and behind them how many pages were free afterwards. Both lie in pinned memory and are
/// the launch's until it is done.
void launch_chunk_take(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap, std::uint32_t count,
                       const std::uint32_t* order, std::uint32_t most, Atom<std::uint32_t>* states);
/// Writes the heap's pulse to pinned memory.
void launch_pulse(Backend& backend, cudaStream_t stream, const HeapArena& heap, HeapPulse* pulse,
                  std::uint64_t sequence);

namespace detail {
void chunk_setup_on_cuda(cudaStream_t stream, const ChunkedHeap& heap);
void chunk_open_on_cuda(cudaStream_t stream, const ChunkedHeap& heap, const ChunkBatch& batch,
                        const ClaimExtent& extent);
void chunk_take_on_cuda(cudaStream_t stream, const ChunkedHeap& heap, std::uint32_t count, const std::uint32_t* order,
                        std::uint32_t most, Atom<std::uint32_t>* states);
void pulse_on_cuda(cudaStream_t stream, const HeapArena& heap, HeapPulse* pulse, std::uint64_t sequence);
} // namespace detail

} // namespace cuda_zstd
