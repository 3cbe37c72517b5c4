// SPDX-License-Identifier: MIT
// How large a device pool is, and how it changes its size.
// Invariant: plain data. Sizes are bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// A pool that grows and shrinks between launches.
struct DevicePoolSize {
    /// For blocks, when the pool is made; rounded up to chunks, at least one.
    std::size_t initial_bytes = 0;
    /// The most that is ever mapped, metadata among it (at most 1 % from 64 MiB up). Addresses are reserved for it.
    std::size_t max_bytes = 0;
    /// What is mapped and unmapped as one piece: a power of two from 2 MiB to 1 GiB. 0: 32 MiB, less (down to 2 MiB)
    /// where that is more than a 64th of the maximum.
    std::size_t chunk_bytes = 0;
};

/// When `between_launches` changes a pool's size. Shares are of the mapped pages.
struct ResizePolicy {
    /// Grows where less than this share is free, and whenever an allocation failed.
    double grow_below_free_share = 1.0 / 16;
    /// Shrinks where more than this share is free in `shrink_after_calls` calls one after the other; 1.0: never.
    double shrink_above_free_share = 1.0 / 2;
    unsigned shrink_after_calls = 32;
    /// Stays mapped: a shrinking pool keeps so much that is free, and at least an eighth of what it has mapped.
    std::size_t reserve_bytes = 0;
};

/// Why a pool did not grow by all that was asked for.
enum class GrowthLimit : std::uint8_t { none, maximum, out_of_memory };

struct GrowthReport {
    std::size_t grown_bytes = 0;  ///< for blocks, mapped by this call
    std::size_t mapped_bytes = 0; ///< in all, metadata among them
    GrowthLimit limit = GrowthLimit::none;
};

struct TrimReport {
    std::size_t returned_bytes = 0; ///< that the driver got back
    std::size_t refused_bytes = 0;  ///< of free chunks that the driver refused to unmap; they are free again
    std::size_t mapped_bytes = 0;   ///< what is left, metadata among it
    std::uint32_t free_chunks = 0;  ///< left mapped: what was to be kept, and what was refused
};

} // namespace cuda_zstd
