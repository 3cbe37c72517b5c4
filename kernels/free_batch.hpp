// SPDX-License-Identifier: MIT
// Blocks of a device heap that the host frees: one kernel for many of them.
//
// Invariant: the pointers travel by value in the kernel's parameters, so nothing of a batch has to outlive its launch.
// What was wrong with a pointer is counted by the heap and written to a log in pinned memory that keeps the first ones.
#pragma once

#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/device/pool_heap.hpp"
#include "cuda_zstd/env/atom.hpp"
#include "kernels/heap_launch.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Pointers of one launch: with the heap's description they stay below the 4 KiB that parameters may take everywhere.
inline constexpr std::uint32_t most_batch_blocks = 256;

struct FreeBatch {
    std::uint32_t count = 0;
    void* blocks[most_batch_blocks] = {};
};

/// Frees that the heap refused, in the order in which they were found.
inline constexpr std::uint32_t most_bad_frees = 64;

struct BadFreeEntry {
    Atom<std::uint64_t> block;
    /// The Status; 0 (ok) while the entry is not written. Written last.
    Atom<std::uint64_t> status;
};

struct BadFreeLog {
    /// In memory of the backend: entries taken, more than there are when some were left out.
    Atom<std::uint32_t>* taken;
    /// In pinned memory, `most_bad_frees` of them.
    BadFreeEntry* entries;
};

/// Frees the blocks of the batch in `stream` order.
void launch_free_batch(Backend& backend, cudaStream_t stream, const HeapArena& heap, const FreeBatch& batch,
                       const BadFreeLog& log);

namespace detail {

/// What one lane does for its block.
template <class Env>
CUDA_ZSTD_HD void free_logged(Env& env, const PoolHeap<Env>& heap, void* block, const BadFreeLog& log) {
    const Status status = heap.deallocate(env, env.converged(), block);
    if (status == Status::ok) return;
    const std::uint32_t at = env.fetch_add(*log.taken, 1u, Order::relaxed);
    if (at >= most_bad_frees) return;
    env.store_for_host(log.entries[at].block, reinterpret_cast<std::uint64_t>(block));
    env.store_for_host(log.entries[at].status, static_cast<std::uint64_t>(status));
}

void free_batch_on_cuda(cudaStream_t stream, const HeapArena& heap, const FreeBatch& batch, const BadFreeLog& log);
void free_batch_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap, const FreeBatch& batch,
                        const BadFreeLog& log);

} // namespace detail

} // namespace cuda_zstd
