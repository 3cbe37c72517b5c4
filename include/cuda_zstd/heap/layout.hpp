// SPDX-License-Identifier: MIT
// Where the parts of a device heap lie in its arena.
//
// Invariant: one arena = metadata, then pages of 64 KiB that hold nothing but users' bytes. All metadata are out of
// band, plain data at offsets that this file computes from the arena's size alone, so host and device agree
// without talking. Metadata take 528 B a page (0.81 %) and a fixed part of a few KiB a processor.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/hardening.hpp"
#include "cuda_zstd/core/size_class.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// Words of 32 bits that hold the slot bits of one page: one bit for each slot of the smallest size.
inline constexpr std::uint32_t slot_words_per_page = page_bytes / min_slot_bytes / 32u;
/// A slab has at most 2^7 pages, 8 MiB.
inline constexpr unsigned max_slab_log2_pages = 7;
/// Slots that a slab aims at; more only where a single page holds more.
inline constexpr std::uint32_t target_slots = 16384;
/// Cells that different processors write lie this many bytes apart: a sector of the L2 cache.
inline constexpr std::uint32_t station_bytes = 32;

/// Cells that all processors share lie this many bytes apart: a line.
inline constexpr std::uint32_t shared_cell_bytes = 128;
/// Counts of moves (Stations): enough that processors do not wait for each other there, and few to add up.
inline constexpr unsigned move_counters = 8;
/// Stations of a class: as many as a slab's word can name.
inline constexpr unsigned max_stations = 256;
/// The counts of moves, and of each class's slabs that are listed.
inline constexpr unsigned shared_cell_count = move_counters + size_class_count;

/// Counts of faults, the first faults themselves, and the ring of blocks in quarantine.
inline constexpr std::size_t fault_log_bytes = 8 * std::size_t{96};
inline constexpr std::size_t hardening_bytes =
    Hardening::any ? 128 + fault_log_bytes + std::size_t{8} * Hardening::quarantine_blocks : 0;

/// 2 TiB: what 32-bit numbers of slot words can name.
inline constexpr std::size_t max_pages = (std::size_t{1} << 25) - 1;

/// The shape of a heap: counts and offsets, all from the arena's size and the number of processors.
struct HeapLayout {
    std::uint32_t page_count = 0;
    std::uint32_t stations = 1;        ///< cursors and lists of each size class
    std::uint32_t station_scale = 0;   ///< stations for each processor, in units of 2^-16
    std::uint32_t slab_log2_pages = 0; ///< the largest slab of this heap
    // Offsets from the arena's start, in bytes.
    std::size_t control_offset = 0;
    std::size_t shared_cells_offset = 0;
    std::size_t stations_offset = 0;
    std::size_t slab_words_offset = 0;
    std::size_t next_offset = 0;
    std::size_t page_entries_offset = 0;
    std::size_t page_bits_offset = 0;
    std::size_t slot_bits_offset = 0;
    std::size_t hardening_offset = 0; ///< what a hardened build keeps; nothing in any other
    std::size_t metadata_bytes = 0;
    std::size_t pages_offset = 0; ///< a multiple of the page size

    /// Words of the bitmap of free pages.
    CUDA_ZSTD_INLINE std::uint32_t page_words() const { return (page_count + 31u) / 32u; }
    CUDA_ZSTD_INLINE std::size_t payload_bytes() const { return static_cast<std::size_t>(page_count) << page_shift; }

    /// The layout for an arena of `arena_bytes` whose start is aligned to a page. `page_count` is 0 when the
    /// arena is too small for one page.
    static HeapLayout for_arena(std::size_t arena_bytes, unsigned processors);
};

/// Bytes of the block at the head of the metadata: a line of 128 B for each cell that many processors write, and four
/// for the heap's own copy of its SlabSupply.
inline constexpr std::size_t control_bytes = 18 * 128;
inline constexpr std::size_t supply_copy_offset = 14 * 128;

inline HeapLayout HeapLayout::for_arena(std::size_t arena_bytes, unsigned processors) {
    HeapLayout layout;
    // A cursor holds a slab back from other sizes: their number follows the heap's size, one processor's share each.
    const std::size_t shard_bytes = std::size_t{16} << 20;
    std::size_t shards = arena_bytes / shard_bytes;
    shards = shards < 1 ? 1 : shards;
    processors = processors == 0 ? 1 : processors;
    shards = shards < processors ? shards : processors;
    layout.stations = static_cast<std::uint32_t>(shards < max_stations ? shards : max_stations);
    layout.station_scale = (layout.stations << 16) / processors;
    // Slabs grow with a class's use. What the cursors of one class may hold back in the end, a slab in
    // use and one to follow it for each processor: a quarter of the heap.
    const std::size_t share = arena_bytes / 8 / layout.stations;
    while (layout.slab_log2_pages < max_slab_log2_pages &&
           (std::size_t{page_bytes} << (layout.slab_log2_pages + 1)) <= share)
        ++layout.slab_log2_pages;

    auto place = [&](std::size_t pages) {
        std::size_t at = 0;
        auto take = [&](std::size_t bytes) {
            const std::size_t here = at;
            at = round_up<std::size_t>(at + bytes, 128);
            return here;
        };
        layout.control_offset = take(control_bytes);
        layout.shared_cells_offset = take(std::size_t{shared_cell_count} * shared_cell_bytes);
        layout.stations_offset = take(std::size_t{size_class_count + 1} * layout.stations * station_bytes);
        layout.slab_words_offset = take(pages * sizeof(std::uint64_t));
        layout.next_offset = take(pages * sizeof(std::uint32_t));
        layout.page_entries_offset = take(pages * sizeof(std::uint32_t));
        layout.page_bits_offset = take((pages + 31) / 32 * sizeof(std::uint32_t));
        layout.slot_bits_offset = take(pages * slot_words_per_page * sizeof(std::uint32_t));
        layout.hardening_offset = take(hardening_bytes);
        layout.metadata_bytes = at;
        layout.pages_offset = round_up<std::size_t>(at, page_bytes);
    };
    std::size_t pages = arena_bytes / page_bytes;
    if (pages > max_pages) pages = max_pages;
    for (;;) {
        place(pages);
        const std::size_t room =
            arena_bytes > layout.pages_offset ? (arena_bytes - layout.pages_offset) / page_bytes : 0;
        if (pages <= room) break;
        const std::size_t excess = pages - room;
        // A page fewer frees a page and its metadata, so the excess shrinks by at least that much a round.
        pages -= excess > 128 ? excess - excess / 128 : 1;
        if (pages == 0) {
            place(0);
            break;
        }
    }
    layout.page_count = static_cast<std::uint32_t>(pages);
    return layout;
}

} // namespace cuda_zstd
