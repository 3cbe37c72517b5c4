// SPDX-License-Identifier: MIT
// What the manager knows of a block that is out of the pools.
//
// Invariant: a slot's record lies in an array behind its slab, at the slot's place there, so that it needs neither an
// address nor sizes of its own; any other block has a longer one. A record stays a record, and a slab one of so many
// slots, till the pool ends, so both may be read at any time: the word, and what is atomic here. Everything else in a
// record belongs to whoever owns the block, or to a thread that is alone in the manager.
#pragma once

#include "cuda_zstd/host/block_pool.hpp"
#include "cuda_zstd/host/packed_dependencies.hpp"
#include "cuda_zstd/host/record_word.hpp"

#include <boost/intrusive/list.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cuda_zstd::detail {

struct Slab;
struct SizeClass;

/// Of a slot all, of another block the first half.
struct alignas(32) BlockRecord : SharedWord<std::atomic<std::uint64_t>> {
    union {
        /// When it was allocated, of a live block, on the steady clock.
        std::uint64_t time_ns = 0;
        /// Of a cached or a spare one: in its chain.
        BlockRecord* next;
    };
    /// What the block's stream had to wait for when it was allocated, its own earlier work included. Beside it, of a
    /// slot: the usable bytes that were not asked for.
    PackedDependencies since_allocation;
    /// Of the allocation; of a cached block, that of the free.
    std::uint64_t stream_id = 0;

    BlockRecord() = default;
    /// Of a slot.
    explicit BlockRecord(std::uint64_t place) noexcept
        : SharedWord{RecordWord::is_slot_mark | place << RecordWord::place_shift} {}

    bool is_slot() const noexcept { return word().is_slot(); }
    PoolKind kind() const noexcept { return word().kind(); }
    std::uint64_t sequence() const noexcept { return word().sequence(); }
    /// Null where it is no slot.
    Slab* slab() const noexcept { return is_slot() ? slab(word()) : nullptr; }
    /// Null of a slot.
    Block* block() const noexcept;
    // Who looks at several of these brings the word along:
    /// Of a slot.
    Slab* slab(RecordWord seen) const noexcept;
    std::byte* ptr() const noexcept { return ptr(word()); }
    std::byte* ptr(RecordWord seen) const noexcept;
    struct Extent {
        std::size_t usable_bytes = 0;
        std::size_t requested_bytes = 0;
        /// Of a slot.
        Slab* slab = nullptr;
    };
    Extent extent() const noexcept { return extent(word()); }
    Extent extent(RecordWord seen) const noexcept;
    std::size_t usable_bytes() const noexcept { return extent().usable_bytes; }
    std::size_t requested_bytes() const noexcept { return extent().requested_bytes; }
    /// An allocation gets the block of so many usable bytes. Its address.
    std::byte* begin(RecordWord seen, std::size_t usable, std::size_t requested) noexcept;

    void become(State state) noexcept { publish(word().with(state)); }
    void become_plain(State state) noexcept { publish(word().plain(state)); }

    /// The caller's block at `address` becomes this thread's: its word then; all 0 when it is not (or no longer)
    /// `from`, or the record is not that address's. May be called with any record, at any time.
    RecordWord claim(const void* address, State from) noexcept {
        return claim_if(from, [&](RecordWord seen) { return ptr(seen) == address; });
    }
};
static_assert(sizeof(BlockRecord) == 32, "the metadata of a slot is bounded");

/// Of a block that is no slot: one cache line.
struct alignas(64) LongRecord : BlockRecord {
    /// Null of a spare one.
    std::atomic<std::byte*> address{nullptr};
    Block* memory = nullptr;
    /// Usable bytes in granules, and 24 bits of those that were not asked for.
    std::uint64_t sizes = 0;
};
static_assert(sizeof(LongRecord) == 64, "a hit and a free touch one line of a block's record");

/// A piece of memory that is cut into slots. Their records lie behind it, two in a cache line.
struct alignas(64) Slab {
    static constexpr std::uint32_t most_slots = 256;
    explicit Slab(std::uint32_t slot_count) noexcept : slots(slot_count) {}

    /// Where the slots begin; null of a spare one.
    std::atomic<std::byte*> base{nullptr};
    /// Of all slots, and of one.
    std::atomic<std::uint32_t> bytes{0};
    std::atomic<std::uint32_t> slot_bytes{0};
    /// 2^24 by the granules of a slot, rounded up: a place is a multiplication.
    std::atomic<std::uint32_t> reciprocal{0};
    const std::uint32_t slots;
    std::uint32_t class_index = 0;
    /// Whether the slab map leads here; else the live table holds the slots one by one.
    bool is_mapped = false;

    // The second cache line: the size class's, under its mutex.
    alignas(64) SizeClass* size_class = nullptr;
    Block* memory = nullptr;
    std::uint32_t free_slots = 0;
    /// While empty slabs are given back: this is one of them.
    bool leaves = false;
    /// What its slots still wait for, then.
    Dependencies leaving_behind;
    /// Among its class's, or the spare ones.
    boost::intrusive::list_member_hook<> hook;
    /// All that there are, spare or not.
    Slab* made_before = nullptr;

    std::byte* slot(std::uint64_t place) const noexcept {
        // Of integers: of a spare slab it is no address.
        return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(base.load(std::memory_order_relaxed)) +
                                            place * slot_bytes.load(std::memory_order_relaxed));
    }
    BlockRecord* records() noexcept { return reinterpret_cast<BlockRecord*>(this + 1); }
    /// The record of the slot that holds an address; null where none does. At any time: of a slab that comes or goes
    /// meanwhile it is any of the records, so claim() decides.
    BlockRecord* record_of(const void* ptr) noexcept {
        const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(ptr) -
                                     reinterpret_cast<std::uintptr_t>(base.load(std::memory_order_relaxed));
        if (offset >= bytes.load(std::memory_order_relaxed)) return nullptr;
        const std::uint64_t place = (offset >> granule_shift) * reciprocal.load(std::memory_order_relaxed) >> 24;
        return place < slots ? records() + place : nullptr;
    }
};
static_assert(sizeof(Slab) == 128, "the metadata of a slab is bounded");

using SlabList =
    boost::intrusive::list<Slab,
                           boost::intrusive::member_hook<Slab, boost::intrusive::list_member_hook<>, &Slab::hook>>;

inline Slab* BlockRecord::slab(RecordWord seen) const noexcept {
    return reinterpret_cast<Slab*>(const_cast<BlockRecord*>(this) - seen.place()) - 1;
}

inline std::byte* BlockRecord::ptr(RecordWord seen) const noexcept {
    if (!seen.is_slot()) return static_cast<const LongRecord*>(this)->address.load(std::memory_order_relaxed);
    return slab(seen)->slot(seen.place());
}

inline Block* BlockRecord::block() const noexcept {
    return is_slot() ? nullptr : static_cast<const LongRecord*>(this)->memory;
}

inline BlockRecord::Extent BlockRecord::extent(RecordWord seen) const noexcept {
    if (seen.is_slot()) {
        Slab* of = slab(seen);
        const std::size_t usable_bytes = of->slot_bytes.load(std::memory_order_relaxed);
        return {usable_bytes, usable_bytes - since_allocation.beside(), of};
    }
    const std::uint64_t sizes = static_cast<const LongRecord*>(this)->sizes;
    const std::size_t usable_bytes = sizes >> 24 << granule_shift;
    return {usable_bytes, usable_bytes - (sizes & 0xFFFFFF), nullptr};
}

inline std::byte* BlockRecord::begin(RecordWord seen, std::size_t usable, std::size_t requested) noexcept {
    if (!seen.is_slot()) {
        auto* record = static_cast<LongRecord*>(this);
        record->sizes = usable >> granule_shift << 24 | (usable - requested);
        return record->address.load(std::memory_order_relaxed);
    }
    since_allocation.set_beside(static_cast<std::uint16_t>(usable - requested));
    return slab(seen)->slot(seen.place());
}

} // namespace cuda_zstd::detail
