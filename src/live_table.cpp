// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/live_table.hpp"

#include "live_slots.hpp"
#include "spin_lock.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <deque>
#include <iterator>
#include <mutex>
#include <new>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t part_count = Hash::parts;
constexpr std::size_t first_places = 64;
constexpr std::size_t remembered_per_part = 64;

/// What became of a block that lives no more.
struct Past {
    std::byte* ptr = nullptr;
    std::size_t requested_bytes = 0;
    std::uint64_t stream_id = 0;
    std::uint64_t freeing_stream_id = 0;
    std::uint64_t sequence = 0;
    PoolKind kind = PoolKind::small;
    bool by_reset = false;
};

bool is_present(const BlockRecord& record) noexcept { return record.state() != BlockRecord::State::absent; }

/// Else its slab is where it is found.
bool is_in_table(const BlockRecord& record) noexcept { return !record.is_slot() || !record.slab()->is_mapped; }

struct alignas(64) Part {
    /// Read by everybody, written by few.
    std::atomic<Slots*> slots{nullptr};
    alignas(64) mutable SpinLock mutex;
    std::size_t entries = 0;
    std::unique_ptr<Slots> table;
    /// Those before it: a reader may still be in one.
    std::vector<std::unique_ptr<Slots>> outgrown;
    std::deque<LongRecord> records;
    BlockRecord* spare = nullptr;
    /// A ring: the oldest is overwritten.
    std::array<Past, remembered_per_part> past;
    std::uint64_t past_count = 0;

    BlockRecord* find(const void* ptr) const noexcept {
        const Slots* present = slots.load(std::memory_order_acquire);
        return present == nullptr ? nullptr : present->find(ptr);
    }

    /// At most 13 of 16 places are used. Whether the table has grown.
    bool make_room() {
        if (table != nullptr && 16 * (entries + 1) <= 13 * table->places()) return false;
        outgrown.reserve(outgrown.size() + 1);
        auto larger = std::make_unique<Slots>(table == nullptr ? first_places : 2 * table->places());
        if (table != nullptr) table->for_each([&](const BlockRecord& record) { larger->insert(record); });
        slots.store(larger.get(), std::memory_order_release);
        table.swap(larger);
        if (larger == nullptr) return false;
        outgrown.push_back(std::move(larger));
        return true;
    }

    void remember(const BlockRecord& record, std::uint64_t freeing_stream_id, bool by_reset) noexcept {
        past[past_count++ % remembered_per_part] = {record.ptr(),      record.requested_bytes(), record.stream_id,
                                                    freeing_stream_id, record.sequence(),        record.kind(),
                                                    by_reset};
    }

    void insert(const BlockRecord& record) noexcept {
        table->insert(record);
        ++entries;
    }

    void erase(BlockRecord& record) noexcept {
        if (is_in_table(record)) {
            table->erase(record);
            --entries;
        }
        put_away(record);
    }

    void put_away(BlockRecord& record) noexcept {
        record.since_allocation.clear();
        record.become_plain(BlockRecord::State::absent);
        if (record.is_slot()) return;
        static_cast<LongRecord&>(record).address.store(nullptr, std::memory_order_relaxed);
        record.next = std::exchange(spare, &record);
    }

    /// In the order in which they lie in memory.
    template <class Visit>
    void for_each(const Visit& visit) const {
        // They lie in small pieces: what comes soon is asked for early.
        auto ahead = records.begin() + std::min<std::ptrdiff_t>(12, std::ssize(records));
        for (auto record = records.begin(); record != records.end(); ++record) {
            if (ahead != records.end()) {
                const char* const soon = reinterpret_cast<const char*>(&*ahead++);
                __builtin_prefetch(soon);
                __builtin_prefetch(soon + 64);
            }
            if (is_present(*record)) visit(const_cast<LongRecord&>(*record));
        }
    }
};

std::string describe(const void* ptr, std::size_t requested_bytes, PoolKind kind, std::uint64_t sequence,
                     std::uint64_t stream_id) {
    char text[160];
    std::snprintf(text, sizeof text, "%zu bytes at %p (%s pool, allocation %llu, on stream %llu)", requested_bytes, ptr,
                  to_string(kind), static_cast<unsigned long long>(sequence),
                  static_cast<unsigned long long>(stream_id));
    return text;
}

std::string describe(const BlockRecord& r) {
    return describe(r.ptr(), r.requested_bytes(), r.kind(), r.sequence(), r.stream_id);
}

std::string address(const void* ptr) {
    char text[32];
    std::snprintf(text, sizeof text, "%p", ptr);
    return text;
}

bool is_callers(const BlockRecord& record) noexcept {
    return record.state() == BlockRecord::State::live || record.state() == BlockRecord::State::device_arena;
}

} // namespace

struct LiveTable::State {
    std::array<Part, part_count> parts;
    Part& part(const void* ptr) noexcept { return parts[Hash(ptr).part()]; }
};

LiveTable::LiveTable(SlabMap& slabs) : slabs_(slabs), state_(std::make_unique<State>()) {}
LiveTable::~LiveTable() = default;

BlockRecord& LiveTable::insert(std::byte* ptr, Block* memory) {
    Part& part = state_->part(ptr);
    const std::lock_guard lock(part.mutex);
    if (part.make_room()) outgrown_.fetch_add(1, std::memory_order_relaxed);
    if (part.spare == nullptr) part.spare = &part.records.emplace_back();
    auto& record = static_cast<LongRecord&>(*std::exchange(part.spare, part.spare->next));
    record.address.store(ptr, std::memory_order_relaxed);
    record.memory = memory;
    record.become_plain(BlockRecord::State::claimed);
    part.insert(record);
    return record;
}

BlockRecord& LiveTable::insert(std::byte* ptr, Slab& slab) {
    BlockRecord& record = *slab.record_of(ptr);
    if (slab.is_mapped) {
        record.become_plain(BlockRecord::State::claimed);
        return record;
    }
    Part& part = state_->part(ptr);
    const std::lock_guard lock(part.mutex);
    if (part.make_room()) outgrown_.fetch_add(1, std::memory_order_relaxed);
    record.become_plain(BlockRecord::State::claimed);
    part.insert(record);
    return record;
}

BlockRecord* LiveTable::find_in_parts(const void* ptr) const noexcept { return state_->part(ptr).find(ptr); }

BlockRecord* LiveTable::find_beside_all(const void* ptr) const noexcept {
    BlockRecord* slot = slabs_.find(ptr);
    // Of a slab that came or went meanwhile it is any of the records.
    if (slot != nullptr && slot->ptr() != ptr) slot = slabs_.find_beside_all(ptr);
    if (slot != nullptr && slot->ptr() == ptr) return is_present(*slot) ? slot : nullptr;
    const Part& part = state_->part(ptr);
    const std::lock_guard lock(part.mutex);
    return part.find(ptr);
}

void LiveTable::free_outgrown(const std::function<void()>& wait_for_readers) noexcept {
    outgrown_.store(0, std::memory_order_relaxed);
    std::vector<std::unique_ptr<Slots>> gone;
    for (Part& part : state_->parts) {
        std::vector<std::unique_ptr<Slots>> of_part;
        const std::lock_guard lock(part.mutex);
        of_part.swap(part.outgrown);
        try {
            gone.insert(gone.end(), std::move_iterator(of_part.begin()), std::move_iterator(of_part.end()));
        } catch (const std::bad_alloc&) {
            of_part.swap(part.outgrown);
            break;
        }
    }
    if (!gone.empty()) wait_for_readers();
}

void LiveTable::discard(BlockRecord& record) noexcept {
    Part& part = state_->part(record.ptr());
    const std::lock_guard lock(part.mutex);
    part.erase(record);
}

void LiveTable::retire(BlockRecord& record, std::uint64_t freeing_stream_id) noexcept {
    Part& part = state_->part(record.ptr());
    const std::lock_guard lock(part.mutex);
    part.remember(record, freeing_stream_id, false);
    part.erase(record);
}

void LiveTable::for_each(const std::function<void(const BlockRecord&)>& visit) const {
    for (const Part& part : state_->parts) {
        const std::lock_guard lock(part.mutex);
        part.for_each(visit);
    }
    slabs_.for_each([&](const BlockRecord& slot) {
        if (is_present(slot)) visit(slot);
    });
}

std::vector<const BlockRecord*> LiveTable::live() const {
    std::vector<const BlockRecord*> records;
    for_each([&](const BlockRecord& record) {
        if (is_callers(record)) records.push_back(&record);
    });
    std::sort(records.begin(), records.end(), [](const auto* a, const auto* b) {
        return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->sequence() < b->sequence();
    });
    return records;
}

std::size_t LiveTable::invalidate_all() noexcept {
    std::size_t count = 0;
    const auto remember = [&](Part& part, const BlockRecord& record) {
        if (!is_callers(record)) return;
        part.remember(record, 0, true);
        ++count;
    };
    for (Part& part : state_->parts) {
        const std::lock_guard lock(part.mutex);
        part.for_each([&](BlockRecord& record) {
            remember(part, record);
            part.put_away(record);
        });
        part.entries = 0;
        if (part.table != nullptr) part.table->clear();
    }
    slabs_.for_each([&](BlockRecord& slot) {
        if (!is_present(slot)) return;
        Part& part = state_->part(slot.ptr());
        const std::lock_guard lock(part.mutex);
        remember(part, slot);
        part.put_away(slot);
    });
    return count;
}

std::string LiveTable::explain(const void* ptr) const {
    const auto* byte = static_cast<const std::byte*>(ptr);
    std::string found;
    for_each([&](const BlockRecord& record) {
        const bool is_start = byte == record.ptr();
        const bool is_inside = byte >= record.ptr() && byte < record.ptr() + record.usable_bytes();
        if (!is_inside) return;
        if (record.state() == BlockRecord::State::cached)
            found = address(ptr) + (is_start ? " is already free" : " points into a block that is free") +
                    ", freed on stream " + std::to_string(record.stream_id) + ": " + describe(record);
        else if (is_start)
            found =
                address(ptr) + " is " +
                (record.kind() == PoolKind::device ? "the arena of a device pool, which release_device_arena frees: "
                                                   : "no device arena but a block, which deallocate frees: ") +
                describe(record);
        else
            found = address(ptr) + " points " + std::to_string(byte - record.ptr()) +
                    " bytes into a live block: " + describe(record);
    });
    if (!found.empty()) return found;
    const Part& part = state_->part(ptr);
    const std::lock_guard lock(part.mutex);
    const std::uint64_t known = std::min<std::uint64_t>(part.past_count, remembered_per_part);
    for (std::uint64_t age = 1; age <= known; ++age) {
        const Past& past = part.past[(part.past_count - age) % remembered_per_part];
        if (past.ptr != ptr) continue;
        const std::string text = describe(past.ptr, past.requested_bytes, past.kind, past.sequence, past.stream_id);
        if (past.by_reset) return address(ptr) + " was invalidated by reset(): " + text;
        return address(ptr) + " is already free, freed on stream " + std::to_string(past.freeing_stream_id) + ": " +
               text;
    }
    return address(ptr) + " was never allocated from this pool, or was freed long ago";
}

} // namespace cuda_zstd::detail
