// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/live_table.hpp"

#include <boost/unordered/unordered_flat_map.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t part_count = 64;
constexpr std::size_t remembered_per_part = 64;

/// What became of a block that lives no more.
struct Past {
    LiveRecord record;
    std::uint64_t freeing_stream_id = 0;
    std::uint64_t order = 0;
    enum class End : std::uint8_t { freed, reset } end = End::freed;
};

struct alignas(64) Part {
    mutable std::mutex mutex;
    boost::unordered_flat_map<const void*, LiveRecord> live;
    /// A ring: the oldest is overwritten.
    std::array<Past, remembered_per_part> past;
    std::uint64_t past_count = 0;

    void remember(const Past& entry) {
        Past& slot = past[past_count % remembered_per_part];
        slot = entry;
        slot.order = ++past_count;
        slot.record.since_allocation.clear();
    }
};

std::string describe(const LiveRecord& record) {
    char text[160];
    std::snprintf(text, sizeof text, "%zu bytes at %p (%s pool, allocation %llu, on stream %llu)",
                  record.requested_bytes, static_cast<void*>(record.ptr), to_string(record.kind),
                  static_cast<unsigned long long>(record.sequence), static_cast<unsigned long long>(record.stream_id));
    return text;
}

std::string address(const void* ptr) {
    char text[32];
    std::snprintf(text, sizeof text, "%p", ptr);
    return text;
}

} // namespace

struct LiveTable::State {
    std::array<Part, part_count> parts;

    Part& part(const void* ptr) {
        const auto granule = reinterpret_cast<std::uintptr_t>(ptr) / granule_bytes;
        return parts[(granule ^ granule >> 6 ^ granule >> 12 ^ granule >> 18) % part_count];
    }
};

LiveTable::LiveTable() : state_(std::make_unique<State>()) {}
LiveTable::~LiveTable() = default;

void LiveTable::insert(LiveRecord record) {
    Part& part = state_->part(record.ptr);
    const std::lock_guard lock(part.mutex);
    const void* ptr = record.ptr;
    part.live.emplace(ptr, std::move(record));
}

std::optional<LiveRecord> LiveTable::claim(const void* ptr, Claim what) {
    Part& part = state_->part(ptr);
    const std::lock_guard lock(part.mutex);
    const auto found = part.live.find(ptr);
    if (found == part.live.end()) return std::nullopt;
    if ((found->second.kind == PoolKind::device) != (what == Claim::device_arena)) return std::nullopt;
    LiveRecord record = std::move(found->second);
    part.live.erase(found);
    return record;
}

void LiveTable::remember(const LiveRecord& record, std::uint64_t freeing_stream_id) {
    Part& part = state_->part(record.ptr);
    const std::lock_guard lock(part.mutex);
    part.remember({record, freeing_stream_id, 0, Past::End::freed});
}

std::optional<LiveRecord> LiveTable::find(const void* ptr) const {
    const Part& part = state_->part(ptr);
    const std::lock_guard lock(part.mutex);
    const auto found = part.live.find(ptr);
    return found == part.live.end() ? std::nullopt : std::optional(found->second);
}

std::vector<LiveRecord> LiveTable::all() const {
    std::vector<LiveRecord> records;
    for (const Part& part : state_->parts) {
        const std::lock_guard lock(part.mutex);
        for (const auto& [ptr, record] : part.live)
            records.push_back(record);
    }
    std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return a.sequence < b.sequence; });
    return records;
}

std::size_t LiveTable::invalidate_all() {
    std::size_t count = 0;
    for (Part& part : state_->parts) {
        const std::lock_guard lock(part.mutex);
        count += part.live.size();
        for (const auto& [ptr, record] : part.live)
            part.remember({record, 0, 0, Past::End::reset});
        part.live.clear();
    }
    return count;
}

std::string LiveTable::explain(const void* ptr) const {
    const auto* byte = static_cast<const std::byte*>(ptr);
    for (const Part& part : state_->parts) {
        const std::lock_guard lock(part.mutex);
        for (const auto& [start, record] : part.live) {
            if (byte == record.ptr)
                return address(ptr) + " is " +
                       (record.kind == PoolKind::device
                            ? "the arena of a device pool, which release_device_arena frees: "
                            : "no device arena but a block, which deallocate frees: ") +
                       describe(record);
            if (byte > record.ptr && byte < record.ptr + record.usable_bytes)
                return address(ptr) + " points " + std::to_string(byte - record.ptr) +
                       " bytes into a live block: " + describe(record);
        }
    }
    const Past* latest = nullptr;
    Past copy;
    {
        const Part& part = state_->part(ptr);
        const std::lock_guard lock(part.mutex);
        for (const Past& past : part.past)
            if (past.order != 0 && past.record.ptr == ptr && (latest == nullptr || past.order > copy.order)) {
                copy = past;
                latest = &copy;
            }
    }
    if (latest == nullptr) return address(ptr) + " was never allocated from this pool, or was freed long ago";
    if (copy.end == Past::End::reset) return address(ptr) + " was invalidated by reset(): " + describe(copy.record);
    return address(ptr) + " is already free, freed on stream " + std::to_string(copy.freeing_stream_id) + ": " +
           describe(copy.record);
}

} // namespace cuda_zstd::detail
