// SPDX-License-Identifier: MIT
// What a pool says about itself: figures, lists, the text of an out_of_memory.
#include "cuda_zstd/host/error.hpp"
#include "pool_registry.hpp"
#include "pool_state.hpp"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>

namespace cuda_zstd {

using namespace detail;

namespace {
constexpr auto relaxed = std::memory_order_relaxed;
}

PoolStatistics MemoryPoolManager::State::statistics() const {
    require_own_process();
    const Turnstile::Passage passage(turnstile_);
    PoolStatistics s;
    const Tally total = caches_.total();
    for (std::size_t i = 0; i < pool_kinds; ++i) {
        const Tally::OfPool& pool = total.pools[i];
        s.pools[i].allocated_bytes = static_cast<std::size_t>(pool.allocated_bytes);
        s.pools[i].live_blocks = static_cast<std::size_t>(pool.live_blocks());
        s.pools[i].allocations = pool.allocations;
        s.pools[i].hits = pool.allocations - pool.misses;
        s.live_block_bytes += static_cast<std::size_t>(pool.live_block_bytes);
        s.live_blocks += s.pools[i].live_blocks;
        s.allocations += s.pools[i].allocations;
        s.deallocations += pool.deallocations;
    }
    for (std::size_t i = 0; i < total.classes.size(); ++i)
        s.size_classes[i] = {total.classes[i].allocations, total.classes[i].allocations - total.classes[i].misses};
    s.allocated_bytes = static_cast<std::size_t>(total.live_bytes);
    s.peak_allocated_bytes = static_cast<std::size_t>(caches_.shared.published.peak.load(relaxed));
    const auto add_free = [&](const Record& record) {
        ++s.free_blocks;
        s.free_bytes += record.usable_bytes();
        s.largest_free_block_bytes = std::max(s.largest_free_block_bytes, record.usable_bytes());
    };
    caches_.for_each([&](ThreadCache& cache) {
        const std::lock_guard lock(cache.lock());
        cache.for_each(add_free);
    });
    {
        const std::lock_guard lock(stranded_mutex_);
        for (const Record* record = stranded_.head; record != nullptr; record = record->next)
            add_free(*record);
    }
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
    const GraphFigures graphs = graphs_.figures();
    s.live_graphs = graphs.graphs;
    s.graph_bytes = graphs.bytes;
    return s;
}

std::vector<StreamShare> MemoryPoolManager::State::stream_statistics() const {
    require_own_process();
    const Alone alone(*this);
    std::map<std::uint64_t, StreamShare> shares;
    const auto add = [&](std::uint64_t stream_id, const StreamCount& count) {
        StreamShare& share = shares[stream_id];
        share.stream_id = stream_id;
        share.allocations += count.allocations;
        share.hits += count.allocations - count.misses;
        share.deallocations += count.deallocations;
    };
    caches_.shared.streams.for_each(add);
    alone.caches.for_each([&](const ThreadCache& cache) { cache.for_each_stream(add); });
    live_.for_each([&](const Record& record) {
        if (record.state() == Record::State::cached) return;
        add(record.stream_id, {});
        StreamShare& share = shares[record.stream_id];
        ++share.live_blocks;
        share.allocated_bytes += record.requested_bytes();
    });
    if (const StreamCount others = caches_.shared.streams.others(); !others.empty()) add(StreamShare::others, others);
    std::vector<StreamShare> listed;
    for (const auto& [id, share] : shares)
        listed.push_back(share);
    return listed;
}

std::vector<PoolBlock> MemoryPoolManager::State::snapshot() const {
    require_own_process();
    // Alone, so that no block is seen both live and free.
    const Alone alone(*this);
    const std::uint64_t now = now_ns();
    std::vector<PoolBlock> blocks;
    live_.for_each([&](const Record& record) {
        const bool is_free = record.state() == Record::State::cached;
        blocks.push_back({record.ptr(), is_free ? record.usable_bytes() : record.requested_bytes(), is_free,
                          is_free ? now : record.time_ns});
    });
    const auto add_free = [&](const Block& block) {
        blocks.push_back({block.ptr, block.bytes, true, block.timestamp});
    };
    large_.for_each_free(add_free);
    medium_.for_each_free(add_free);
    small_.for_each_free([&](std::byte* ptr, std::size_t bytes, std::uint64_t time_ns) {
        blocks.push_back({ptr, bytes, true, time_ns});
    });
    std::sort(blocks.begin(), blocks.end(), [](const PoolBlock& a, const PoolBlock& b) { return a.ptr < b.ptr; });
    return blocks;
}

std::string MemoryPoolManager::State::live_blocks_text() const {
    require_own_process();
    const Alone alone(*this);
    const std::vector<const Record*> records = live_.live();
    const std::uint64_t now = now_ns();
    std::string text = "Allocated blocks: " + std::to_string(records.size()) + "\n";
    char line[192];
    for (const Record* record : records) {
        const double age_s = static_cast<double>(now - record->time_ns) / 1e9;
        std::snprintf(line, sizeof line, "  %p  %12zu bytes  %-6s  stream %llu  allocation %llu  age %.3f s\n",
                      static_cast<void*>(record->ptr()), record->requested_bytes(), to_string(record->kind()),
                      static_cast<unsigned long long>(record->stream_id),
                      static_cast<unsigned long long>(record->sequence()), age_s);
        text += line;
        text += observer_.site_of(record->ptr());
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
    if (const std::size_t open_bytes = order_.open_bytes(); open_bytes != 0 && backend.captures_go_on())
        text +=
            "; " + std::to_string(open_bytes) +
            " of the free bytes wait for streams that only a wait for all streams covers, which a capture that goes on "
            "forbids";
    throw out_of_memory(text);
}

std::string MemoryPoolManager::State::known_as(const void* ptr) const {
    if (is_forked()) return {};
    const Alone alone(*this);
    if (std::string of_graph = graphs_.explain(ptr); !of_graph.empty()) return of_graph;
    const auto* const byte = static_cast<const std::byte*>(ptr);
    bool is_mine = false;
    live_.for_each(
        [&](const Record& record) { is_mine |= byte >= record.ptr() && byte < record.ptr() + record.usable_bytes(); });
    return is_mine ? live_.explain(ptr) : std::string();
}

std::size_t MemoryPoolManager::State::usable_size(const void* ptr) const {
    require_own_process();
    {
        const Turnstile::Passage passage(turnstile_);
        const Record* record = live_.find_beside_all(ptr);
        if (record != nullptr &&
            (record->state() == Record::State::live || record->state() == Record::State::device_arena))
            return record->usable_bytes();
    }
    const std::string elsewhere = PoolRegistry::get().owner_of(ptr, this);
    const Alone alone(*this);
    throw usage_error("usable_size of no live block: " + (elsewhere.empty() ? live_.explain(ptr) : elsewhere));
}

std::string MemoryPoolManager::State::check() const {
    const Alone alone(*this);
    for (std::string found : {small_.check(), medium_.check(), large_.check()})
        if (!found.empty()) return found;
    std::size_t at_hand = 0;
    std::string found;
    const auto look = [&](const Record& record) {
        ++at_hand;
        if (record.state() != Record::State::cached) found = "a block at hand is not free";
        if (live_.find_beside_all(record.ptr()) != &record) found = "a block at hand is not in the table";
    };
    alone.caches.for_each([&](ThreadCache& cache) {
        std::size_t bytes = 0;
        cache.for_each([&](const Record& record) {
            look(record);
            bytes += record.usable_bytes();
        });
        if (bytes != cache.cached_bytes()) found = "a thread's count of bytes at hand is wrong";
    });
    for (const Record* record = stranded_.head; record != nullptr; record = record->next)
        look(*record);
    live_.for_each([&](const Record& record) {
        if (record.state() == Record::State::cached)
            --at_hand;
        else if (record.state() == Record::State::claimed)
            found = "a block is in nobody's hands";
    });
    if (at_hand != 0) found = "a free block in the table is at nobody's hand";
    return found;
}

} // namespace cuda_zstd
