// SPDX-License-Identifier: MIT
// The host-side owner of a heap that kernels allocate from.
//
// Invariant: the arena belongs to the pool from construction to destruction; the manager lists it, and its reset()
// throws while it lives. The pool's address may change by a move, its heap's never does: handles in kernels stay valid.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/device/pool_ref.hpp"
#include "cuda_zstd/heap/heap_report.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

namespace cuda_zstd {

class MemoryPoolManager;

class CUDA_ZSTD_API DevicePool {
public:
    /// Reserves `bytes` (metadata, at most 1 % from 64 MiB up, among them) from the manager's arenas and sets the heap
    /// up in `stream` order. Throws `configuration_error` below 1 MiB and `out_of_memory`.
    DevicePool(MemoryPoolManager& manager, std::size_t bytes, cudaStream_t stream = 0);
    /// Gives the arena back behind all work of the stream it was made on; blocks that still live are gone with it.
    ~DevicePool();
    DevicePool(DevicePool&& other) noexcept;
    DevicePool& operator=(DevicePool&& other) noexcept;

    /// The handle for kernels; for DevicePoolRef in CUDA code, `Env` is cuda_env. Use it in work ordered behind the
    /// construction's stream.
    template <class Env>
    BasicPoolRef<Env> ref() const {
        return BasicPoolRef<Env>(Heap<Env>::over(arena(), layout()));
    }

    /// Returns empty slabs to the free pages and publishes a report, in `stream` order; kernels of other streams may
    /// allocate and free meanwhile. Does not wait. Calls on several streams are safe; the last one done is reported.
    void compact(cudaStream_t stream);
    /// The last published report; all zero before the first and, for a moment, while one is written. Waits for nothing.
    HeapReport last_report() const;
    /// Publishes a report in `stream` order, waits for it and returns it.
    HeapReport statistics(cudaStream_t stream);

    /// Bytes of the arena, metadata among them.
    std::size_t arena_bytes() const noexcept;
    const HeapLayout& layout() const noexcept;
    /// Start of the arena.
    void* arena() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace cuda_zstd
