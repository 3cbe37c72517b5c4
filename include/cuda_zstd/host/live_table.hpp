// SPDX-License-Identifier: MIT
// The blocks that are out of the pools, by address: the live ones, and the free ones that threads keep at hand.
//
// Invariant: a record is in the table exactly while no pool has its block, and its word says whose the block is. The
// word changes from `live` by compare-and-swap only, so of two threads that free an address one gets the block and the
// other does not. Records are never given back to the system before the table ends, so a word may be read at any time;
// everything else in a record belongs to whoever owns the block, or to a thread that is alone in the manager.
// Lookup takes no lock: a hash in one of 64 parts, each a table of pointers that are only ever added, or replaced by a
// mark. What was freed lately is remembered for error messages.
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

/// What the manager knows of one block.
struct BlockRecord {
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
    /// In a magazine or among the spare records.
    BlockRecord* next = nullptr;
    /// The slab of a small block, else null.
    Slab* slab = nullptr;
    /// The block itself where there is no slab.
    Block* block = nullptr;
    std::size_t requested_bytes = 0;
    std::size_t usable_bytes = 0;
    /// Of the allocation.
    std::uint64_t stream_id = 0;
    /// Of the last free, once there was one.
    std::uint64_t freeing_stream_id = 0;
    /// Counts the allocations of the pool; each thread draws numbers in lots.
    std::uint64_t sequence = 0;
    /// Of the last change of state; ticks.hpp.
    std::uint64_t ticks = 0;
    PoolKind kind = PoolKind::small;
    /// Whether the block's stream had it before: then it may stay with the stream when it is freed there.
    bool returning = false;
    /// Whether the block came from a magazine: earlier work of its stream may use it, and no ticket says so.
    bool unticketed = false;
    /// What the block's stream had to wait for when it was allocated, its own earlier work included.
    Dependencies since_allocation;

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
    /// The record whose word holds the address, in whatever state; null where there is none. No lock.
    BlockRecord* find(const void* ptr) const noexcept;
    /// Takes a claimed record's block out, unremembered: it was never the caller's.
    void discard(BlockRecord& record) noexcept;
    /// Takes a claimed record out and remembers it as freed.
    void retire(BlockRecord& record) noexcept;

    // The rest is for a thread that is alone in the manager.

    void for_each(const std::function<void(const BlockRecord&)>& visit) const;
    /// Every live record, oldest first. O(n log n).
    std::vector<const BlockRecord*> live() const;
    /// Empties the table; the live records are remembered as invalidated. How many there were.
    std::size_t invalidate_all() noexcept;
    /// Why `ptr` cannot be freed: what the table knows of it. O(n).
    std::string explain(const void* ptr) const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace cuda_zstd::detail
