// SPDX-License-Identifier: MIT
// What a page holds, in 32 bits: so that a free needs one load to know its block.
//
// Invariant: free pages and the inner pages of a run hold 0, pages without memory behind them `away`. The entries of a
// slab's pages are written before the slab is published and cleared after it was retired, so the entry of a live block
// never changes.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/size_class.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Kind in the upper two bits. A slab's page: the size of its slots, log2 of the slab's pages, pages before this one. A
/// run's first page: the run's pages.
struct PageEntry {
    std::uint32_t raw;

    static constexpr std::uint32_t kind_mask = 0xc0000000u;
    static constexpr std::uint32_t slab_kind = 0x40000000u;
    static constexpr std::uint32_t run_kind = 0x80000000u;
    /// A page that no memory is behind: neither free nor anybody's (HeapChunks).
    static constexpr std::uint32_t away = kind_mask;

    static CUDA_ZSTD_INLINE PageEntry of_slab(unsigned size_class, unsigned log2_pages, std::uint32_t pages_before) {
        const SlotSize size = SlotSize::of(size_class);
        return PageEntry{slab_kind | size.shift << 20 | size.factor << 16 | log2_pages << 8 | pages_before};
    }
    static CUDA_ZSTD_INLINE PageEntry of_run(std::uint32_t pages) { return PageEntry{run_kind | pages}; }

    CUDA_ZSTD_INLINE bool is_slab() const { return (raw & kind_mask) == slab_kind; }
    CUDA_ZSTD_INLINE bool is_run() const { return (raw & kind_mask) == run_kind; }
    CUDA_ZSTD_INLINE bool is_away() const { return raw == away; }
    CUDA_ZSTD_INLINE SlotSize slot_size() const { return {raw >> 16 & 0xfu, raw >> 20 & 0xfu}; }
    CUDA_ZSTD_INLINE unsigned log2_pages() const { return raw >> 8 & 7u; }
    CUDA_ZSTD_INLINE std::uint32_t pages_before() const { return raw & 0xffu; }
    CUDA_ZSTD_INLINE std::uint32_t run_pages() const { return raw & ~kind_mask; }
};

} // namespace cuda_zstd
