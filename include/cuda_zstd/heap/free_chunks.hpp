// SPDX-License-Identifier: MIT
// Physical chunks of an arena that hold nothing but free pages.
//
// Invariant: chunks are numbered from the arena's start, which is aligned to them. The first ones hold metadata, in
// whole or in part, and the last one may reach beyond the last page: these are never free. Reads only; beside
// allocations the answer may be old when it is given, so whoever wants to unmap a chunk claims its pages first.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/heap/heap.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// The chunks of one heap, of a power of two of at least one page each.
struct ChunkGrid {
    std::uint32_t chunk_pages = 1;
    std::uint32_t metadata_pages = 0; ///< in front of the first page of the heap
    std::uint32_t first = 0;          ///< the first chunk without metadata
    std::uint32_t end = 0;            ///< behind the last chunk that the heap's pages fill

    static ChunkGrid of(const HeapLayout& layout, std::size_t chunk_bytes) {
        ChunkGrid grid;
        grid.chunk_pages = static_cast<std::uint32_t>(chunk_bytes >> page_shift);
        grid.metadata_pages = static_cast<std::uint32_t>(layout.pages_offset >> page_shift);
        grid.first = (grid.metadata_pages + grid.chunk_pages - 1) / grid.chunk_pages;
        grid.end = (grid.metadata_pages + layout.page_count) / grid.chunk_pages;
        if (grid.end < grid.first) grid.end = grid.first;
        return grid;
    }
    CUDA_ZSTD_INLINE std::uint32_t count() const { return end - first; }
    /// The heap's first page in a chunk from `first` on.
    CUDA_ZSTD_INLINE std::uint32_t page_of(std::uint32_t chunk) const { return chunk * chunk_pages - metadata_pages; }
};

/// Whether all pages of the chunk are free. Cost: a load for each 32 pages, until one is not.
template <class Env>
CUDA_ZSTD_HD bool is_chunk_free(Env& env, const Heap<Env>& heap, const ChunkGrid& grid, std::uint32_t chunk) {
    const std::uint32_t begin = grid.page_of(chunk);
    const std::uint32_t end = begin + grid.chunk_pages;
    for (std::uint32_t page = begin; page < end;) {
        const std::uint32_t in_word = 32u - page % 32u;
        const std::uint32_t count = end - page < in_word ? end - page : in_word;
        const std::uint32_t wanted = low_bits(count) << (page % 32u);
        if ((env.load(heap.supply().pages.bits[page / 32u], Order::relaxed) & wanted) != wanted) return false;
        page += count;
    }
    return true;
}

} // namespace cuda_zstd
