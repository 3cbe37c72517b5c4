// SPDX-License-Identifier: MIT
// A pool as JSON: docs/snapshot.schema.json.
#include "cuda_zstd/host/error.hpp"
#include "pool_state.hpp"
#include "snapshot_writer.hpp"

#include <cerrno>
#include <chrono>
#include <limits>
#include <string>
#include <system_error>
#include <unordered_map>
#include <vector>

namespace cuda_zstd {

using namespace detail;

namespace {

std::uint64_t address_of(const void* ptr) { return reinterpret_cast<std::uintptr_t>(ptr); }

void write_statistics(SnapshotWriter& out, const PoolStatistics& s) {
    out.raw("\"statistics\":{");
    out.field("allocated_bytes", s.allocated_bytes, "").field("peak_allocated_bytes", s.peak_allocated_bytes);
    out.field("live_block_bytes", s.live_block_bytes).field("capacity_bytes", s.capacity_bytes);
    out.field("peak_capacity_bytes", s.peak_capacity_bytes).field("live_blocks", s.live_blocks);
    out.field("free_blocks", s.free_blocks).field("free_bytes", s.free_bytes);
    out.field("largest_free_block_bytes", s.largest_free_block_bytes).field("allocations", s.allocations);
    out.field("deallocations", s.deallocations).field("failed_allocations", s.failed_allocations);
    out.field("growths", s.growths).field("returns", s.returns).field("device_waits", s.device_waits);
    out.field("host_waits", s.host_waits).field("resets", s.resets);
    out.raw(",\"fragmentation\":").fraction(s.fragmentation()).raw(",\"pools\":{");
    for (std::size_t index = 0; index < pool_kinds; ++index) {
        const PoolShare& share = s.pools[index];
        out.raw(index == 0 ? "\"" : ",\"").raw(to_string(static_cast<PoolKind>(index))).raw("\":{");
        out.field("allocated_bytes", share.allocated_bytes, "").field("live_blocks", share.live_blocks);
        out.field("allocations", share.allocations).field("hits", share.hits).raw("}");
    }
    out.raw("}}");
}

void write_arena(SnapshotWriter& out, const AddressRange& range, const Block* first, const char* before) {
    out.raw(before).field("base", address_of(range.base), "{").field("bytes", range.bytes).raw(",\"unmapped\":[");
    const char* comma = "";
    for (const Block* block = first; block != nullptr; block = block->after) {
        if (block->state != Block::State::unmapped) continue;
        out.raw(comma).raw("[").number(address_of(block->ptr)).raw(",").number(block->bytes).raw("]");
        comma = ",";
    }
    out.raw("]}");
}

} // namespace

void MemoryPoolManager::State::write_snapshot(std::FILE* to) const {
    const PoolStatistics figures = statistics();
    const auto unix_time = std::chrono::system_clock::now().time_since_epoch();
    SnapshotWriter out(to);
    out.raw("{\"format\":\"cuda_zstd pool snapshot 1\"").field("pool", observer_.number());
    out.field("time_unix_ns", static_cast<std::uint64_t>(unix_time / std::chrono::nanoseconds(1)));
    out.raw(",\"backend\":").text(backend.kind() == BackendKind::cuda ? "cuda" : "host");
    out.raw(",\"strategy\":").text(to_string(options.strategy)).raw(",\"limit_bytes\":");
    if (figures.limit_bytes == std::numeric_limits<std::size_t>::max())
        out.raw("null");
    else
        out.number(figures.limit_bytes);
    out.raw(",\n");
    write_statistics(out, figures);

    // Alone, so that no block is seen both live and free.
    const Alone alone(*this);
    const std::uint64_t now = now_ns();
    const auto age_ns = [&](std::uint64_t timestamp) { return now > timestamp ? now - timestamp : 0; };
    // In threads' magazines: few.
    std::vector<const Record*> cached;
    out.raw(",\n\"arenas\":[");
    const char* comma = "";
    large_.for_each_arena([&](const AddressRange& range, const Block* first) {
        write_arena(out, range, first, comma);
        comma = ",";
    });
    out.raw("],\n\"live_columns\":[\"address\",\"requested_bytes\",\"usable_bytes\",\"pool\",\"stream\",\"sequence\","
            "\"age_ns\"],\n\"live\":[");
    bool first = true;
    live_.for_each([&](const Record& record) {
        if (record.state() == Record::State::cached) {
            cached.push_back(&record);
            return;
        }
        out.row(first, address_of(record.ptr()), record.requested_bytes(), record.usable_bytes(),
                static_cast<std::uint64_t>(record.kind()), record.stream_id, record.sequence(), age_ns(record.time_ns));
    });
    out.raw("],\n\"free_columns\":[\"address\",\"bytes\",\"pool\",\"age_ns\"],\n\"free\":[");
    first = true;
    const auto add_free = [&](const std::byte* ptr, std::size_t bytes, PoolKind kind, std::uint64_t timestamp) {
        out.row(first, address_of(ptr), bytes, static_cast<std::uint64_t>(kind), age_ns(timestamp));
    };
    for (const Record* record : cached)
        add_free(record->ptr(), record->usable_bytes(), record->kind(), now);
    large_.for_each_free([&](const Block& b) { add_free(b.ptr, b.bytes, PoolKind::large, b.timestamp); });
    medium_.for_each_free([&](const Block& b) { add_free(b.ptr, b.bytes, PoolKind::medium, b.timestamp); });
    small_.for_each_free([&](const std::byte* ptr, std::size_t bytes, std::uint64_t time_ns) {
        add_free(ptr, bytes, PoolKind::small, time_ns);
    });
    out.raw("],\n\"sites\":{");
    comma = "\n";
    std::unordered_map<const void*, std::string> symbols;
    const auto symbol = [&](const void* frame) -> const std::string& {
        std::string& name = symbols[frame];
        if (name.empty()) name = symbol_of(frame);
        return name;
    };
    if (observer_.tracks())
        observer_.sites().for_each([&](const void* ptr, const CallSite& site) {
            out.raw(comma).raw("\"").number(address_of(ptr)).raw("\":[");
            const char* between = "";
            for (const void* frame : site.frames) {
                if (frame == nullptr) continue;
                out.raw(between).text(symbol(frame));
                between = ",";
            }
            out.raw("]");
            comma = ",\n";
        });
    out.raw("}}\n");
    out.flush();
    if (std::fflush(to) != 0) throw std::system_error(errno, std::generic_category(), "the snapshot cannot be written");
}

} // namespace cuda_zstd
