// SPDX-License-Identifier: MIT
// What the pools of blocks have in common.
// Invariant: a block goes back to the pool that its region names. Locks are taken from the smaller pool to the larger:
// size class, spans, arenas.
#pragma once

#include "cuda_zstd/host/block_heap.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace cuda_zstd::detail {

/// How far a pool goes for a request. Memory that is ready is always tried first.
enum class Effort : std::uint8_t {
    /// Nothing but memory that is mapped and ready for the stream.
    cached,
    /// Also maps more.
    grow,
    /// Also takes memory that waits for another stream's work.
    wait,
    /// Also both: first waits, then maps.
    all,
};
constexpr bool may_grow(Effort effort) noexcept { return effort == Effort::grow || effort == Effort::all; }
constexpr bool may_wait(Effort effort) noexcept { return effort == Effort::wait || effort == Effort::all; }

class BlockPool {
public:
    virtual ~BlockPool() = default;
    BlockPool(const BlockPool&) = delete;
    BlockPool& operator=(const BlockPool&) = delete;

    /// `bytes` are a multiple of the granule. What is left of the dependencies is for the caller to wait for, or to
    /// hand on with the memory. Empty where there is none.
    virtual Taken take(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id, Effort effort) = 0;
    virtual void give(Block& block, Dependencies dependencies) = 0;
    /// Several blocks of this pool behind one ticket, or none.
    virtual void give(std::span<Block* const> blocks, const TicketRef& ticket) noexcept = 0;

protected:
    BlockPool() = default;
};

struct PoolRegion : Region {
    BlockPool* pool = nullptr;
};

/// The pool that a block belongs to.
inline BlockPool& pool_of(const Block& block) noexcept { return *static_cast<PoolRegion*>(block.region)->pool; }

/// Free memory of one pool.
struct FreeFigures {
    std::size_t blocks = 0;
    std::size_t bytes = 0;
    std::size_t largest_bytes = 0;
};

} // namespace cuda_zstd::detail
