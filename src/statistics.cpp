// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/statistics.hpp"

#include "cuda_zstd/host/small_pool.hpp"

#include <cstdio>
#include <limits>

namespace cuda_zstd {
namespace {

double megabytes(std::size_t bytes) { return static_cast<double>(bytes) / (1u << 20); }

template <class... Values>
void add_line(std::string& text, const char* format, Values... values) {
    char line[256];
    std::snprintf(line, sizeof line, format, values...);
    text += line;
    text += '\n';
}

} // namespace

const char* to_string(PoolKind kind) noexcept {
    switch (kind) {
    case PoolKind::small:
        return "small";
    case PoolKind::medium:
        return "medium";
    case PoolKind::large:
        return "large";
    case PoolKind::device:
        return "device";
    }
    return "unknown";
}

std::size_t request_class_bytes(std::size_t index) noexcept {
    return detail::SmallPool::size_of_class(static_cast<unsigned>(index));
}

std::string to_text(const PoolStatistics& s) {
    const auto count = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    std::string text;
    add_line(text, "MemoryPool Stats:");
    add_line(text, "  Total Allocated: %.1f MB", megabytes(s.allocated_bytes));
    add_line(text, "  Total Capacity:  %.1f MB", megabytes(s.capacity_bytes));
    add_line(text, "  Free Blocks:     %llu", count(s.free_blocks));
    add_line(text, "  Fragmentation:   %.1f%%", 100 * s.fragmentation());
    add_line(text, "  Peak Allocated:  %.1f MB", megabytes(s.peak_allocated_bytes));
    add_line(text, "  Peak Capacity:   %.1f MB", megabytes(s.peak_capacity_bytes));
    if (s.limit_bytes == std::numeric_limits<std::size_t>::max())
        add_line(text, "  Limit:           none");
    else
        add_line(text, "  Limit:           %.1f MB", megabytes(s.limit_bytes));
    add_line(text, "  Live Blocks:     %llu", count(s.live_blocks));
    add_line(text, "  Largest Free:    %.1f MB", megabytes(s.largest_free_block_bytes));
    std::uint64_t hits = 0;
    for (const PoolShare& pool : s.pools)
        hits += pool.hits;
    add_line(text, "  Allocations:     %llu (%llu hits, %llu misses, %llu failed)", count(s.allocations), count(hits),
             count(s.allocations - hits), count(s.failed_allocations));
    add_line(text, "  Deallocations:   %llu", count(s.deallocations));
    add_line(text, "  Growths:         %llu (%llu returns)", count(s.growths), count(s.returns));
    add_line(text, "  Waits:           %llu on the device, %llu on the host, %llu for all streams",
             count(s.device_waits), count(s.host_waits), count(s.idle_waits));
    add_line(text, "  Resets:          %llu (%llu blocks invalidated)", count(s.resets),
             count(s.total_invalidated_blocks));
    add_line(text, "  Device Pools:    %llu", count(s.live_device_pools));
    add_line(text, "  %-8s %12s %12s %14s %14s", "pool", "live blocks", "live MB", "allocations", "hits");
    for (std::size_t i = 0; i < pool_kinds; ++i) {
        const PoolShare& pool = s.pools[i];
        add_line(text, "  %-8s %12llu %12.1f %14llu %14llu", to_string(static_cast<PoolKind>(i)),
                 count(pool.live_blocks), megabytes(pool.allocated_bytes), count(pool.allocations), count(pool.hits));
    }
    return text;
}

} // namespace cuda_zstd
