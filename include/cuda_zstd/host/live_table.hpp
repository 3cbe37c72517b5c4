// SPDX-License-Identifier: MIT
// The blocks that are out of the pools, by address: the live ones, and the free ones that threads keep at hand.
//
// Invariant: a record is in the table exactly while no pool has its block, and its word says whose the block is. The
// word changes from `live` by compare-and-swap only, so of two threads that free an address one gets the block and the
// other does not. Records are never given back to the system before the table ends, so a word may be read at any time;
// everything else in a record belongs to whoever owns the block, or to a thread that is alone in the manager.
// Lookup takes no lock: a hash in one of 64 parts, each a table of pointers that are only ever added, or replaced by a
// mark. A table that was outgrown lives till nobody can be in it, so its readers are known: they hold the lock of a
// thread cache. What was freed lately is remembered for error messages.
#pragma once

#include "cuda_zstd/host/block_pool.hpp"
#include "cuda_zstd/host/small_pool.hpp"
#include "cuda_zstd/host/statistics.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cuda_zstd::detail {

/// What the manager knows of one block: one cache line.
struct alignas(64) BlockRecord {
    enum class State : std::uintptr_t {
        /// In no table.
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
    /// The block's address, a multiple of the granule, plus its state.
    std::atomic<std::uintptr_t> word{0};
    union {
        /// When it was allocated, of a live block; ticks.hpp.
        std::uint64_t ticks = 0;
        /// Of a cached or a spare one: in its chain.
        BlockRecord* next;
    };
    /// The slab of a slot, else the block itself.
    void* owner = nullptr;
    /// Usable bytes in granules, and 24 bits of those that were not asked for: at most a class's step.
    std::uint64_t sizes = 0;
    /// Of the allocation; of a cached block, that of the free.
    std::uint64_t stream_id = 0;
    /// The number of the allocation above 16 bits of marks. Written as a whole: a part that is written is late for who
    /// reads the whole.
    std::uint64_t number_and_marks = 0;
    /// What the block's stream had to wait for when it was allocated, its own earlier work included.
    Dependencies since_allocation;

    /// Whether it is a slot of the small pool.
    static constexpr std::uint64_t is_slot_mark = 1;
    /// Whether the block's stream had it before: then it may stay with the stream when it is freed there.
    static constexpr std::uint64_t returning_mark = 2;
    /// Whether the block came from a magazine: earlier work of its stream may use it, and no ticket says so.
    static constexpr std::uint64_t unticketed_mark = 4;
    /// The bits from here on: the pool's kind, and a slot's class.
    static constexpr unsigned kind_shift = 3;
    static constexpr unsigned class_shift = 6;
    static constexpr unsigned number_shift = 16;

    bool is_slot() const noexcept { return (number_and_marks & is_slot_mark) != 0; }
    bool is_returning() const noexcept { return (number_and_marks & returning_mark) != 0; }
    bool is_unticketed() const noexcept { return (number_and_marks & unticketed_mark) != 0; }
    PoolKind kind() const noexcept { return static_cast<PoolKind>(number_and_marks >> kind_shift & 7); }
    unsigned class_index() const noexcept { return static_cast<unsigned>(number_and_marks >> class_shift & 0xFF); }
    /// Counts the allocations of the pool; each thread draws numbers in lots.
    std::uint64_t sequence() const noexcept { return number_and_marks >> number_shift; }
    /// A new allocation of the same block.
    void renumber(std::uint64_t number, PoolKind pool_kind, std::uint64_t more_marks) noexcept {
        constexpr std::uint64_t kept = is_slot_mark | returning_mark | std::uint64_t{0xFF} << class_shift;
        number_and_marks = (number_and_marks & kept) | more_marks |
                           static_cast<std::uint64_t>(pool_kind) << kind_shift | number << number_shift;
    }
    Slab* slab() const noexcept { return is_slot() ? static_cast<Slab*>(owner) : nullptr; }
    Block* block() const noexcept { return is_slot() ? nullptr : static_cast<Block*>(owner); }
    std::size_t usable_bytes() const noexcept { return sizes >> 24 << granule_shift; }
    std::size_t requested_bytes() const noexcept { return usable_bytes() - (sizes & 0xFFFFFF); }
    void set_sizes(std::size_t usable, std::size_t requested) noexcept {
        sizes = usable >> granule_shift << 24 | (usable - requested);
    }

    static constexpr std::uintptr_t state_mask = granule_bytes - 1;
    static constexpr std::uintptr_t word_of(const void* ptr, State state) noexcept {
        return reinterpret_cast<std::uintptr_t>(ptr) | static_cast<std::uintptr_t>(state);
    }
    State state() const noexcept { return static_cast<State>(word.load(std::memory_order_acquire) & state_mask); }
    std::byte* ptr() const noexcept {
        return reinterpret_cast<std::byte*>(word.load(std::memory_order_relaxed) & ~state_mask);
    }
    /// Of the owner.
    void become(State state) noexcept { word.store(word_of(ptr(), state), std::memory_order_release); }
    /// The caller's block becomes this thread's; false when it is not (or no longer) `from`.
    bool claim(const void* address, State from) noexcept {
        std::uintptr_t expected = word_of(address, from);
        return word.compare_exchange_strong(expected, word_of(address, State::claimed), std::memory_order_acquire,
                                            std::memory_order_relaxed);
    }
};

static_assert(sizeof(BlockRecord) == 64, "a hit and a free touch one line of a block's record");

/// What an allocation got; `ptr` is null where there is no memory.
struct Granted {
    void* ptr = nullptr;
    std::uint64_t sequence = 0;
};

class LiveTable {
public:
    LiveTable();
    ~LiveTable();
    LiveTable(const LiveTable&) = delete;
    LiveTable& operator=(const LiveTable&) = delete;

    /// A record of `claimed` state for the block at `ptr`, in the table. The caller fills it, then publishes by
    /// become(). May throw std::bad_alloc.
    BlockRecord& insert(std::byte* ptr);
    /// The record whose word holds the address, in whatever state; null where there is none. No lock of its own: the
    /// caller's, for which free_outgrown() waits.
    BlockRecord* find(const void* ptr) const noexcept;
    /// The same for anybody: with a lock.
    BlockRecord* find_beside_all(const void* ptr) const noexcept;
    /// Whether there are enough outgrown tables for free_outgrown(). One load.
    bool has_outgrown() const noexcept { return outgrown_.load(std::memory_order_relaxed) >= worth_freeing; }
    /// Frees the tables that were outgrown. `wait_for_readers` returns when everybody who is in find() when it is
    /// called has left it. With no lock held.
    void free_outgrown(const std::function<void()>& wait_for_readers) noexcept;
    /// Takes a claimed record's block out, unremembered: it was never the caller's.
    void discard(BlockRecord& record) noexcept;
    /// Takes a claimed or cached record out and remembers it as freed.
    void retire(BlockRecord& record, std::uint64_t freeing_stream_id) noexcept;

    // The rest is for a thread that is alone in the manager.

    void for_each(const std::function<void(const BlockRecord&)>& visit) const;
    /// Every live record, oldest first. O(n log n).
    std::vector<const BlockRecord*> live() const;
    /// Empties the table; the live records are remembered as invalidated. How many there were.
    std::size_t invalidate_all() noexcept;
    /// Why `ptr` cannot be freed: what the table knows of it. O(n).
    std::string explain(const void* ptr) const;

private:
    static constexpr unsigned worth_freeing = 16;
    struct State;
    std::unique_ptr<State> state_;
    std::atomic<unsigned> outgrown_{0};
};

} // namespace cuda_zstd::detail
