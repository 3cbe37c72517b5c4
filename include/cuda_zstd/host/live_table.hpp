// SPDX-License-Identifier: MIT
// The blocks that are out of the pools, by address: the live ones, and the free ones that threads keep at hand.
//
// Invariant: a record is in the table exactly while no pool has its block, and its word says whose the block is. The
// word changes from `live` by compare-and-swap only, so of two threads that free an address one gets the block and the
// other does not.
// Lookup takes no lock. Slots are found by their slab (SlabMap), where their records are all the time, absent or not.
// Other blocks, and slots of slabs that are too small for a map, are found by a hash in one of 64 parts, each a table
// of pointers that are only ever added, or replaced by a mark. A table that was outgrown lives till nobody can be in
// it, so its readers are known: they hold the lock of a thread cache. What was freed lately is remembered for error
// messages.
#pragma once

#include "cuda_zstd/host/block_record.hpp"
#include "cuda_zstd/host/slab_map.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cuda_zstd::detail {

/// What an allocation got; `ptr` is null where there is no memory.
struct Granted {
    void* ptr = nullptr;
    std::uint64_t sequence = 0;
};

class LiveTable {
public:
    explicit LiveTable(SlabMap& slabs);
    ~LiveTable();
    LiveTable(const LiveTable&) = delete;
    LiveTable& operator=(const LiveTable&) = delete;

    /// A record of `claimed` state for the block at `ptr`, in the table. The caller fills it, then publishes
    /// its word, renewed. May throw std::bad_alloc.
    BlockRecord& insert(std::byte* ptr, Block* memory);
    /// The same for a slot.
    BlockRecord& insert(std::byte* ptr, Slab& slab);
    /// The record that the address has if it is that of a block out of the pools: claim() tells. Null where there is
    /// none. No lock of its own: the caller's, for which free_outgrown() waits.
    BlockRecord* find(const void* ptr) const noexcept {
        BlockRecord* const slot = slabs_.find(ptr);
        return slot != nullptr ? slot : find_in_parts(ptr);
    }
    /// The address's record, in whatever state but absent; null where there is none. For anybody: with a lock.
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
    BlockRecord* find_in_parts(const void* ptr) const noexcept;

    static constexpr unsigned worth_freeing = 16;
    struct State;
    SlabMap& slabs_;
    std::unique_ptr<State> state_;
    std::atomic<unsigned> outgrown_{0};
};

} // namespace cuda_zstd::detail
