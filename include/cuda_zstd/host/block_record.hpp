// SPDX-License-Identifier: MIT
// What the manager knows of a block that is out of the pools.
//
// Invariant: a slot's record lies in an array behind its slab, at the slot's place there, so that it needs neither an
// address nor sizes of its own; any other block has a longer one. A record stays a record, and a slab one of so many
// slots, till the pool ends, so both may be read at any time: the word, and what is atomic here. Everything else in a
// record belongs to whoever owns the block, or to a thread that is alone in the manager.
// A word whose state is `live` or `device_arena` is one allocation's only, whose number is in it. So who has read a
// word, then found that the address is the record's, and then exchanges the word, has that block.
#pragma once

#include "cuda_zstd/host/block_pool.hpp"
#include "cuda_zstd/host/packed_dependencies.hpp"
#include "cuda_zstd/host/statistics.hpp"

#include <boost/intrusive/list.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cuda_zstd::detail {

struct Slab;
struct SizeClass;

/// Whose a block is, and what does not change as long as it is somebody's. In one word, which is written as a whole: a
/// part that is written is late for who reads the whole.
struct RecordWord {
    enum class State : std::uint64_t {
        /// The pools'.
        absent,
        /// The caller's.
        live,
        /// The caller's, as the arena of a device pool.
        device_arena,
        /// Free, in a thread's magazine.
        cached,
        /// In the hands of a thread that moves it.
        claimed,
    };
    static constexpr std::uint64_t state_mask = 7;
    /// Whether it is a slot of the small pool.
    static constexpr std::uint64_t is_slot_mark = 1 << 3;
    /// Whether the block's stream had it before: then it may stay with the stream when it is freed there.
    static constexpr std::uint64_t returning_mark = 1 << 4;
    /// Whether the block came from a magazine: earlier work of its stream may use it, and no ticket says so.
    static constexpr std::uint64_t unticketed_mark = 1 << 5;
    /// The bits from here on: the pool's kind, a slot's place in its slab, the number of the allocation.
    static constexpr unsigned kind_shift = 6;
    static constexpr unsigned place_shift = 8;
    static constexpr unsigned number_shift = 16;
    /// What a record keeps as long as it is one.
    static constexpr std::uint64_t fixed_mask = is_slot_mark | std::uint64_t{0xFF} << place_shift;

    State state() const noexcept { return static_cast<State>(bits & state_mask); }
    bool is_slot() const noexcept { return (bits & is_slot_mark) != 0; }
    bool is_returning() const noexcept { return (bits & returning_mark) != 0; }
    bool is_unticketed() const noexcept { return (bits & unticketed_mark) != 0; }
    PoolKind kind() const noexcept { return static_cast<PoolKind>(bits >> kind_shift & 3); }
    std::uint64_t place() const noexcept { return bits >> place_shift & 0xFF; }
    /// Counts the allocations of the pool; each thread draws numbers in lots.
    std::uint64_t sequence() const noexcept { return bits >> number_shift; }
    RecordWord with(State state) const noexcept { return {(bits & ~state_mask) | static_cast<std::uint64_t>(state)}; }
    /// Of nobody, or of somebody who has just come by it.
    RecordWord plain(State state) const noexcept { return {(bits & fixed_mask) | static_cast<std::uint64_t>(state)}; }
    /// Of a new allocation.
    RecordWord renewed(State state, std::uint64_t number, PoolKind kind, std::uint64_t marks) const noexcept {
        return {plain(state).bits | marks | static_cast<std::uint64_t>(kind) << kind_shift | number << number_shift};
    }

    std::uint64_t bits = 0;
};

/// Of a slot all, of another block the first half.
struct alignas(32) BlockRecord {
    using State = RecordWord::State;

    std::atomic<std::uint64_t> bits{0};
    union {
        /// When it was allocated, of a live block; ticks.hpp.
        std::uint64_t ticks = 0;
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
        : bits(RecordWord::is_slot_mark | place << RecordWord::place_shift) {}

    /// As it is now: for its owner.
    RecordWord word() const noexcept { return {bits.load(std::memory_order_relaxed)}; }
    State state() const noexcept { return RecordWord{bits.load(std::memory_order_acquire)}.state(); }
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

    /// Of the owner: what others then see.
    void publish(RecordWord word) noexcept { bits.store(word.bits, std::memory_order_release); }
    void become(State state) noexcept { publish(word().with(state)); }
    void become_plain(State state) noexcept { publish(word().plain(state)); }

    /// The caller's block at `address` becomes this thread's: its word then; all 0 when it is not (or no longer)
    /// `from`, or the record is not that address's. May be called with any record, at any time.
    RecordWord claim(const void* address, State from) noexcept {
        const RecordWord seen{bits.load(std::memory_order_acquire)};
        if (seen.state() != from || ptr(seen) != address) return {};
        const RecordWord mine = seen.with(State::claimed);
        std::uint64_t expected = seen.bits;
        return bits.compare_exchange_strong(expected, mine.bits, std::memory_order_acquire, std::memory_order_relaxed)
                   ? mine
                   : RecordWord{};
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
