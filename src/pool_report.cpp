// SPDX-License-Identifier: MIT
// What a pool says about itself: figures, lists, the text of an out_of_memory.
#include "cuda_zstd/host/error.hpp"
#include "pool_state.hpp"

#include <algorithm>
#include <cstdio>
#include <limits>

namespace cuda_zstd {

using namespace detail;

namespace {
constexpr auto relaxed = std::memory_order_relaxed;
}

PoolStatistics MemoryPoolManager::State::statistics() const {
    const Turnstile::Passage passage(turnstile_);
    PoolStatistics s;
    for (std::size_t i = 0; i < pool_kinds; ++i) {
        const Counters& counters = counters_[i];
        s.pools[i].allocated_bytes = counters.allocated_bytes.load(relaxed);
        s.pools[i].live_blocks = counters.live_blocks.load(relaxed);
        s.pools[i].allocations = counters.allocations.load(relaxed);
        s.pools[i].hits = counters.hits.load(relaxed);
        s.live_block_bytes += counters.live_block_bytes.load(relaxed);
        s.live_blocks += s.pools[i].live_blocks;
        s.allocations += s.pools[i].allocations;
        s.deallocations += counters.deallocations.load(relaxed);
    }
    s.allocated_bytes = allocated_bytes_.load(relaxed);
    s.peak_allocated_bytes = peak_allocated_bytes_.load(relaxed);
    const ArenaFigures arenas = large_.figures();
    for (const FreeFigures& free : {arenas.free, medium_.figures(), small_.figures()}) {
        s.free_blocks += free.blocks;
        s.free_bytes += free.bytes;
        s.largest_free_block_bytes = std::max(s.largest_free_block_bytes, free.largest_bytes);
    }
    s.capacity_bytes = arenas.capacity_bytes;
    s.peak_capacity_bytes = arenas.peak_capacity_bytes;
    s.limit_bytes = large_.limit_bytes();
    s.growths = arenas.growths;
    s.returns = arenas.returns;
    s.failed_allocations = failed_.load(relaxed);
    s.device_waits = order_.device_waits();
    s.host_waits = host_waits_.load(relaxed);
    s.idle_waits = order_.closings();
    s.resets = resets_.load(relaxed);
    s.reset_invalidated_blocks = reset_invalidated_.load(relaxed);
    s.total_invalidated_blocks = total_invalidated_.load(relaxed);
    s.live_device_pools = device_pools_.load(relaxed);
    return s;
}

std::vector<PoolBlock> MemoryPoolManager::State::snapshot() const {
    // Alone, so that no block is seen both live and free.
    const Turnstile::Alone alone(turnstile_);
    std::vector<PoolBlock> blocks;
    for (const LiveRecord& record : live_.all())
        blocks.push_back({record.ptr, record.requested_bytes, false, record.timestamp});
    const auto add_free = [&](const Block& block) {
        blocks.push_back({block.ptr, block.bytes, true, block.timestamp});
    };
    large_.for_each_free(add_free);
    medium_.for_each_free(add_free);
    small_.for_each_free([&](std::byte* ptr, std::size_t bytes, std::uint64_t timestamp) {
        blocks.push_back({ptr, bytes, true, timestamp});
    });
    std::sort(blocks.begin(), blocks.end(), [](const PoolBlock& a, const PoolBlock& b) { return a.ptr < b.ptr; });
    return blocks;
}

std::string MemoryPoolManager::State::live_blocks_text() const {
    const std::vector<LiveRecord> records = live_.all();
    const std::uint64_t now = now_ns();
    std::string text = "Allocated blocks: " + std::to_string(records.size()) + "\n";
    char line[192];
    for (const LiveRecord& record : records) {
        const double age_s = now > record.timestamp ? static_cast<double>(now - record.timestamp) / 1e9 : 0.0;
        std::snprintf(line, sizeof line, "  %p  %12zu bytes  %-6s  stream %llu  allocation %llu  age %.3f s\n",
                      static_cast<void*>(record.ptr), record.requested_bytes, to_string(record.kind),
                      static_cast<unsigned long long>(record.stream_id),
                      static_cast<unsigned long long>(record.sequence), age_s);
        text += line;
        text += observer_.site_of(record.ptr);
    }
    return text;
}

void MemoryPoolManager::State::throw_out_of_memory(std::size_t bytes) const {
    const PoolStatistics s = statistics();
    std::string text = "cannot allocate " + std::to_string(bytes) + " bytes: ";
    if (bytes > s.limit_bytes)
        text += "more than the pool's limit of " + std::to_string(s.limit_bytes) + " bytes (CUDA_ZSTD_POOL_MAX_SIZE); ";
    else if (s.limit_bytes == std::numeric_limits<std::size_t>::max())
        text += "no limit is set, the machine has " + std::to_string(large_.most_bytes()) + "; ";
    else
        text +=
            "the limit is " + std::to_string(s.limit_bytes) + " bytes" +
            (large_.most_bytes() < s.limit_bytes ? ", but the machine has " + std::to_string(large_.most_bytes()) + "; "
                                                 : std::string("; "));
    char fragmentation[32];
    std::snprintf(fragmentation, sizeof fragmentation, "%.1f%%", 100 * s.fragmentation());
    text += std::to_string(s.capacity_bytes) + " bytes are mapped, " + std::to_string(s.allocated_bytes) +
            " allocated, " + std::to_string(s.free_bytes) + " free in " + std::to_string(s.free_blocks) +
            " blocks, the largest of " + std::to_string(s.largest_free_block_bytes) + " (fragmentation " +
            fragmentation + ")";
    if (const std::string failure = large_.last_failure(); !failure.empty())
        text += "; the source's last failure: " + failure;
    throw out_of_memory(text);
}

} // namespace cuda_zstd
