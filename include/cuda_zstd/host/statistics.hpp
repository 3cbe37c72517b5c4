// SPDX-License-Identifier: MIT
// The figures of a pool at one moment, and how they are printed.
// Invariant: capacity_bytes >= live_block_bytes + free_bytes, and live_block_bytes >= allocated_bytes.
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace cuda_zstd {

/// By size: the three pools, and the arenas of device pools.
enum class PoolKind : std::uint8_t { small, medium, large, device };
inline constexpr std::size_t pool_kinds = 4;
/// "small", "medium", "large" or "device".
CUDA_ZSTD_API const char* to_string(PoolKind kind) noexcept;

/// One pool's share.
struct PoolShare {
    /// Requested bytes of its live blocks.
    std::size_t allocated_bytes = 0;
    std::size_t live_blocks = 0;
    std::uint64_t allocations = 0;
    /// Allocations that found their block without a larger pool's or the source's help.
    std::uint64_t hits = 0;
};

/// Allocations by size: steps of 256 B to 1 KiB, then four a doubling.
inline constexpr std::size_t request_class_count = 160;
struct SizeClassShare {
    std::uint64_t allocations = 0;
    std::uint64_t hits = 0;
};
/// The largest request of a size class, in bytes.
CUDA_ZSTD_API std::size_t request_class_bytes(std::size_t index) noexcept;

/// One stream's part. A free counts for the stream that it was made on, a live block for that of its allocation.
struct StreamShare {
    /// Stands for streams of long ago, counted together.
    static constexpr std::uint64_t others = ~std::uint64_t{0};
    /// Of the backend.
    std::uint64_t stream_id = 0;
    std::size_t live_blocks = 0;
    /// Requested bytes of the live blocks.
    std::size_t allocated_bytes = 0;
    std::uint64_t allocations = 0;
    std::uint64_t hits = 0;
    std::uint64_t deallocations = 0;
};

struct PoolStatistics {
    /// Requested bytes of live blocks, now and at most. The peak is exact where one thread uses the pool; each further
    /// one may add up to 16 MiB to it.
    std::size_t allocated_bytes = 0;
    std::size_t peak_allocated_bytes = 0;
    /// Bytes that live blocks cover.
    std::size_t live_block_bytes = 0;
    /// Mapped bytes, now and at most.
    std::size_t capacity_bytes = 0;
    std::size_t peak_capacity_bytes = 0;
    /// The limit; SIZE_MAX where there is none.
    std::size_t limit_bytes = 0;
    std::size_t live_blocks = 0;
    std::size_t free_blocks = 0;
    std::size_t free_bytes = 0;
    std::size_t largest_free_block_bytes = 0;
    std::array<PoolShare, pool_kinds> pools{};
    std::array<SizeClassShare, request_class_count> size_classes{};
    std::uint64_t allocations = 0;
    std::uint64_t deallocations = 0;
    std::uint64_t failed_allocations = 0;
    /// Times the source was asked for more, and times memory went back to it.
    std::uint64_t growths = 0;
    std::uint64_t returns = 0;
    /// Times a stream was made to wait for another one's free.
    std::uint64_t device_waits = 0;
    /// Times the caller waited for pending frees: for want of memory, or in trim.
    std::uint64_t host_waits = 0;
    /// Times the caller waited for all streams, since a stream had not recorded its latest frees yet.
    std::uint64_t idle_waits = 0;
    std::uint64_t resets = 0;
    /// Live blocks that resets have invalidated: the last one, and all.
    std::uint64_t reset_invalidated_blocks = 0;
    std::uint64_t total_invalidated_blocks = 0;
    std::size_t live_device_pools = 0;
    /// Graphs that hold memory of the pool, and how much. Not among the live blocks.
    std::size_t live_graphs = 0;
    std::size_t graph_bytes = 0;

    /// 1 - largest free block / free bytes; 0 where nothing is free.
    double fragmentation() const noexcept {
        return free_bytes == 0 ? 0.0
                               : 1.0 - static_cast<double>(largest_free_block_bytes) / static_cast<double>(free_bytes);
    }
};

/// The text of MemoryPoolManager::print_stats().
CUDA_ZSTD_API std::string to_text(const PoolStatistics& statistics);

} // namespace cuda_zstd
