// SPDX-License-Identifier: MIT
// The live blocks, by address.
//
// Invariant: an address is in the table exactly while its block belongs to the caller, so of two threads that free it
// one gets the record and the other does not. Lookup is a hash in one of 64 parts, each with its mutex; only an error
// message looks at all of them. What was freed lately is remembered for such messages.
#pragma once

#include "cuda_zstd/host/block_pool.hpp"
#include "cuda_zstd/host/small_pool.hpp"
#include "cuda_zstd/host/statistics.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cuda_zstd::detail {

/// One live block.
struct LiveRecord {
    std::byte* ptr = nullptr;
    std::size_t requested_bytes = 0;
    std::size_t usable_bytes = 0;
    /// The slab of a small block, else null.
    Slab* slab = nullptr;
    /// The block itself where there is no slab.
    Block* block = nullptr;
    std::uint64_t stream_id = 0;
    /// Counts the allocations of the pool.
    std::uint64_t sequence = 0;
    std::uint64_t timestamp = 0;
    PoolKind kind = PoolKind::small;
    /// What the block's stream had to wait for when it was allocated, its own earlier work included.
    Dependencies since_allocation;
};

class LiveTable {
public:
    LiveTable();
    ~LiveTable();
    LiveTable(const LiveTable&) = delete;
    LiveTable& operator=(const LiveTable&) = delete;

    void insert(LiveRecord record);
    /// Takes a record out. Device arenas are claimed only as such, and nothing else is.
    enum class Claim : std::uint8_t { block, device_arena };
    std::optional<LiveRecord> claim(const void* ptr, Claim what);
    /// Remembers a claimed record as freed: by which stream.
    void remember(const LiveRecord& record, std::uint64_t freeing_stream_id);
    std::optional<LiveRecord> find(const void* ptr) const;
    /// Every live record, in the order of the allocations. O(n log n).
    std::vector<LiveRecord> all() const;
    /// Empties the table; the records are remembered as invalidated. How many there were.
    std::size_t invalidate_all();
    /// Why `ptr` cannot be freed: what the table knows of it. O(n).
    std::string explain(const void* ptr) const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace cuda_zstd::detail
