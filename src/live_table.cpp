// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/live_table.hpp"

#include "spin_lock.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <deque>
#include <mutex>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t part_count = 64;
constexpr std::size_t first_slots = 64;
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

/// Open addressing with linear probing. An erased slot keeps the mark until an insertion uses it again, so a reader
/// that probes beside writers passes over what they change.
struct Slots {
    explicit Slots(std::size_t slots) : mask(slots - 1), entries(std::make_unique<Entry[]>(slots)) {}
    using Entry = std::atomic<BlockRecord*>;
    std::size_t mask;
    std::unique_ptr<Entry[]> entries;
};

BlockRecord* erased() noexcept {
    static BlockRecord mark;
    return &mark;
}

std::uint64_t hash_of(const void* ptr) noexcept {
    return (reinterpret_cast<std::uintptr_t>(ptr) / granule_bytes) * 0x9E3779B97F4A7C15u;
}

struct alignas(64) Part {
    /// Read by everybody, written by few.
    std::atomic<Slots*> slots{nullptr};
    alignas(64) mutable SpinLock mutex;
    std::size_t entries = 0;
    /// All that there ever were: a reader may still be in one that has been replaced. Each is half of the next.
    std::vector<std::unique_ptr<Slots>> tables;
    std::deque<BlockRecord> records;
    BlockRecord* spare = nullptr;
    /// A ring: the oldest is overwritten.
    std::array<Past, remembered_per_part> past;
    std::uint64_t past_count = 0;

    static std::size_t first(const void* ptr) noexcept { return hash_of(ptr) >> 20; }

    static void place(Slots& to, BlockRecord& record, const void* ptr) noexcept {
        for (std::size_t i = first(ptr);; ++i) {
            auto& entry = to.entries[i & to.mask];
            BlockRecord* present = entry.load(std::memory_order_relaxed);
            if (present != nullptr && present != erased()) continue;
            entry.store(&record, std::memory_order_release);
            return;
        }
    }

    /// At most half of the slots are used.
    void make_room() {
        Slots* present = slots.load(std::memory_order_relaxed);
        if (present != nullptr && 2 * (entries + 1) <= present->mask + 1) return;
        tables.reserve(tables.size() + 1);
        auto larger = std::make_unique<Slots>(present == nullptr ? first_slots : 2 * (present->mask + 1));
        if (present != nullptr)
            for (std::size_t i = 0; i <= present->mask; ++i) {
                BlockRecord* record = present->entries[i].load(std::memory_order_relaxed);
                if (record != nullptr && record != erased()) place(*larger, *record, record->ptr());
            }
        slots.store(larger.get(), std::memory_order_release);
        tables.push_back(std::move(larger));
    }

    void remember(const BlockRecord& record, std::uint64_t freeing_stream_id, bool by_reset) noexcept {
        past[past_count++ % remembered_per_part] = {record.ptr(),      record.requested_bytes(), record.stream_id,
                                                    freeing_stream_id, record.sequence(),        record.kind(),
                                                    by_reset};
    }

    void erase(BlockRecord& record) noexcept {
        Slots& present = *slots.load(std::memory_order_relaxed);
        std::size_t i = first(record.ptr());
        while (present.entries[i & present.mask].load(std::memory_order_relaxed) != &record)
            ++i;
        present.entries[i & present.mask].store(erased(), std::memory_order_relaxed);
        --entries;
        put_away(record);
    }

    void put_away(BlockRecord& record) noexcept {
        record.since_allocation.clear();
        record.word.store(0, std::memory_order_relaxed);
        record.next = std::exchange(spare, &record);
    }

    /// In the order in which they lie in memory; those that are in no table have the word 0.
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
            if (record->word.load(std::memory_order_relaxed) != 0) visit(const_cast<BlockRecord&>(*record));
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
    Part& part(const void* ptr) noexcept { return parts[hash_of(ptr) >> 58]; }
};
static_assert(part_count == 64, "a part is named by 6 bits of the hash");

LiveTable::LiveTable() : state_(std::make_unique<State>()) {}
LiveTable::~LiveTable() = default;

BlockRecord& LiveTable::insert(std::byte* ptr) {
    Part& part = state_->part(ptr);
    const std::lock_guard lock(part.mutex);
    part.make_room();
    if (part.spare == nullptr) part.spare = &part.records.emplace_back();
    BlockRecord& record = *std::exchange(part.spare, part.spare->next);
    record.word.store(BlockRecord::word_of(ptr, BlockRecord::State::claimed), std::memory_order_relaxed);
    Part::place(*part.slots.load(std::memory_order_relaxed), record, ptr);
    ++part.entries;
    return record;
}

BlockRecord* LiveTable::find(const void* ptr) const noexcept {
    const Slots* slots = state_->part(ptr).slots.load(std::memory_order_acquire);
    if (slots == nullptr) return nullptr;
    const auto address = reinterpret_cast<std::uintptr_t>(ptr);
    const std::size_t first = Part::first(ptr);
    for (std::size_t i = 0; i <= slots->mask; ++i) {
        BlockRecord* record = slots->entries[(first + i) & slots->mask].load(std::memory_order_acquire);
        if (record == nullptr) return nullptr;
        // The mark's word is 0, and no block is at address 0.
        if ((record->word.load(std::memory_order_relaxed) & ~BlockRecord::state_mask) == address) return record;
    }
    return nullptr;
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
}

std::vector<const BlockRecord*> LiveTable::live() const {
    std::vector<const BlockRecord*> records;
    for_each([&](const BlockRecord& record) {
        if (is_callers(record)) records.push_back(&record);
    });
    std::sort(records.begin(), records.end(), [](const auto* a, const auto* b) {
        return a->ticks != b->ticks ? a->ticks < b->ticks : a->sequence() < b->sequence();
    });
    return records;
}

std::size_t LiveTable::invalidate_all() noexcept {
    std::size_t count = 0;
    for (Part& part : state_->parts) {
        const std::lock_guard lock(part.mutex);
        part.for_each([&](BlockRecord& record) {
            if (is_callers(record)) {
                part.remember(record, 0, true);
                ++count;
            }
            part.put_away(record);
        });
        part.entries = 0;
        if (Slots* slots = part.slots.load(std::memory_order_relaxed))
            for (std::size_t i = 0; i <= slots->mask; ++i)
                slots->entries[i].store(nullptr, std::memory_order_relaxed);
    }
    return count;
}

std::string LiveTable::explain(const void* ptr) const {
    const auto* byte = static_cast<const std::byte*>(ptr);
    std::string found;
    for (const Part& part : state_->parts) {
        const std::lock_guard lock(part.mutex);
        part.for_each([&](const BlockRecord& record) {
            const bool is_start = byte == record.ptr();
            const bool is_inside = byte >= record.ptr() && byte < record.ptr() + record.usable_bytes();
            if (!is_inside) return;
            if (record.state() == BlockRecord::State::cached)
                found = address(ptr) + (is_start ? " is already free" : " points into a block that is free") +
                        ", freed on stream " + std::to_string(record.stream_id) + ": " + describe(record);
            else if (is_start)
                found = address(ptr) + " is " +
                        (record.kind() == PoolKind::device
                             ? "the arena of a device pool, which release_device_arena frees: "
                             : "no device arena but a block, which deallocate frees: ") +
                        describe(record);
            else
                found = address(ptr) + " points " + std::to_string(byte - record.ptr()) +
                        " bytes into a live block: " + describe(record);
        });
        if (!found.empty()) return found;
    }
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
