// SPDX-License-Identifier: MIT
// The order in which partly free slabs are to be used: by size class, and in a class the fullest first.
//
// Invariant: a pure function of a slab's word, in 16 bits, so that a radix sort needs two passes. Slabs that are nearly
// full are filled up, and the sparse ones get the time to become empty: the choice that bounds fragmentation best among
// those that move no block (Robson 1977 for best fit; the "fullest superblock first" of Hoard, Berger et al. 2000).
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/heap/slab.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Place of a slab in the order: smaller is used earlier.
struct SlabRank {
    static constexpr unsigned share_bits = 10;
    /// What is no slab of a list; behind all others.
    static constexpr std::uint16_t none = 0xffff;
    static_assert((size_class_count << share_bits) < none);

    /// The rank of a slab with credits: its class, then its free share in units of 2^-10, rounded down.
    static CUDA_ZSTD_INLINE std::uint16_t of(SlabWord word) {
        const std::uint32_t free_bytes =
            static_cast<std::uint32_t>(word.credits()) * slot_bytes_of(word.size_class()); // at most 8 MiB
        const std::uint32_t share = free_bytes >> (page_shift + word.log2_pages() - share_bits);
        const std::uint32_t most = (1u << share_bits) - 1u;
        return static_cast<std::uint16_t>(word.size_class() << share_bits | (share < most ? share : most));
    }
    /// The rank of the sparsest slab of the word's class.
    static CUDA_ZSTD_INLINE std::uint16_t last_of(SlabWord word) {
        return static_cast<std::uint16_t>(word.size_class() << share_bits | ((1u << share_bits) - 1u));
    }
    static CUDA_ZSTD_INLINE unsigned size_class(std::uint16_t rank) { return rank >> share_bits; }
};

/// Classes of fill that a report counts slabs by: 0 is empty, 1 to 8 are the eighths of a slab's slots that are live
/// (rounded up), 9 is full.
inline constexpr unsigned fill_class_count = 10;

CUDA_ZSTD_INLINE unsigned fill_class_of(std::uint32_t live_slots, std::uint32_t slots) {
    if (live_slots >= slots) return fill_class_count - 1u;
    return (live_slots * 8u + slots - 1u) / slots;
}

} // namespace cuda_zstd
