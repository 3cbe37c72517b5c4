// SPDX-License-Identifier: MIT
// The host-side owner of the handles of a device pool's movable blocks.
//
// Invariant: the pool outlives the table; blocks that still live when the table ends stay the pool's. What kernels do
// with handles is ordered by streams.
//
//     cuda_zstd::HandleTable table(pool, 1 << 20, stream);
//     fill<<<blocks, 256, 0, stream>>>(table.ref<cuda_zstd::cuda_env>(), ...);  // allocate, resolve, deallocate
//     table.relocate(stream);                                                   // blocks move together
//     pool.trim(stream);                                                        // what they left goes to the driver
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/device/pool_handle.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

namespace cuda_zstd {

class DevicePool;

/// What a relocation did.
struct RelocationReport {
    std::uint64_t moved_blocks = 0;
    std::uint64_t moved_bytes = 0;
    std::uint64_t kept_blocks = 0;   ///< that should have moved, and found no room
    std::uint32_t chosen_chunks = 0; ///< that were to be cleared
};

/// Uses of handles that were wrong, since the table was made.
struct HandleFaults {
    std::uint32_t stale_uses = 0; ///< resolved or freed after they were freed
    std::uint32_t refused = 0;    ///< allocations for which the table had no entry left
};

/// Members may be called from any thread, one at a time.
class CUDA_ZSTD_API HandleTable {
public:
    /// Room for `capacity` handles, 8 B each; twice as many as there will be make them cheap. Throws
    /// `configuration_error` for 0, `out_of_memory`.
    HandleTable(DevicePool& pool, std::uint32_t capacity, cudaStream_t stream = 0);
    ~HandleTable();
    HandleTable(const HandleTable&) = delete;
    HandleTable& operator=(const HandleTable&) = delete;

    /// The table for kernels; in CUDA code, `Env` is cuda_env. Use it in work behind the construction's stream.
    template <class Env>
    BasicHandleRef<Env> ref() const {
        using Word = typename Env::template atom<std::uint64_t>;
        using Count = typename Env::template atom<std::uint32_t>;
        return BasicHandleRef<Env>(PoolHeap<Env>::over(arena_, layout_), static_cast<Word*>(entries_), capacity_,
                                   static_cast<Count*>(cells_));
    }

    /// Moves blocks of handles, in `stream` order, out of the chunks that hold least, into the free places of those
    /// that hold most, and waits. No other work may use the pool or its handles meanwhile: all of it must be ordered
    /// before `stream`, or behind the return. Pointers from `resolve` are stale after it. Blocks without a handle stay,
    /// and keep their chunk. Throws `usage_error` on a stream that is being captured, `out_of_memory`, `cuda_error`.
    /// Cost: two passes over the metadata, one over the table, and the copies.
    RelocationReport relocate(cudaStream_t stream);
    /// Waits for `stream`.
    HandleFaults faults(cudaStream_t stream);

private:
    struct State;
    std::unique_ptr<State> state_;
    // Copies for ref().
    void* arena_ = nullptr;
    HeapLayout layout_;
    void* entries_ = nullptr;
    void* cells_ = nullptr;
    std::uint32_t capacity_ = 0;
};

} // namespace cuda_zstd
