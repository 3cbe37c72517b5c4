// SPDX-License-Identifier: MIT
// Allocation for a whole thread block: one block of memory that every thread receives, and many at once.
//
// Invariant: BlockBoard, which the caller keeps in shared memory, holds what the threads tell each other; each function
// ends with a barrier behind its last access, so the next one may use the same board.
//
// Every thread of the block calls, with the same arguments. Progress: each function waits for the threads of the block,
// as its barriers do, and otherwise as BasicPoolRef.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/device/block_scope.hpp"
#include "cuda_zstd/device/pool_ref.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

template <class Env>
struct BlockBoard {
    void* block;
    Status status;
    typename Env::template atom<std::uint32_t> taken;
    typename Env::template atom<std::uint32_t> refusal;
};

/// One block of memory for the thread block: every thread receives the same pointer and status, and may use it at once.
/// Cost: one lane's allocation and two barriers.
template <BlockScope Block, class PoolsHeap>
CUDA_ZSTD_HD void* block_allocate(Block& block, const BasicPoolRef<typename Block::Env, PoolsHeap>& pool,
                                  BlockBoard<typename Block::Env>& board, std::size_t bytes, std::uint32_t alignment,
                                  Status& status) {
    if (block.thread() == 0) board.block = pool.try_allocate(block.env(), bytes, alignment, board.status);
    block.sync();
    void* const result = board.block;
    status = board.status;
    block.sync();
    return result;
}

/// Gives it back, after the last access of every thread. Cost: a barrier and one lane's free.
template <BlockScope Block, class PoolsHeap>
CUDA_ZSTD_HD void block_deallocate(Block& block, const BasicPoolRef<typename Block::Env, PoolsHeap>& pool,
                                   void* memory) {
    block.sync();
    if (block.thread() == 0) pool.deallocate(block.env(), memory);
}

/// Gives back `count` blocks, nulls among them, after the last access of every thread. Cost: a barrier, and a free of
/// each warp for every 32 blocks, the warps beside each other.
template <BlockScope Block, class PoolsHeap>
CUDA_ZSTD_HD void block_deallocate_many(Block& block, const BasicPoolRef<typename Block::Env, PoolsHeap>& pool,
                                        std::uint32_t count, void* const* blocks) {
    block.sync();
    for (std::uint32_t at = block.thread(); at < count; at += block.threads())
        pool.deallocate(block.env(), blocks[at]);
}

/// BasicPoolRef::allocate_many for a thread block: each thread asks for every threads()-th block. Cost: an allocation
/// of each warp for every 32 blocks, the warps beside each other, an atomic on shared memory for each block, and three
/// barriers. A thread whose request fails makes no further one; others may.
template <BlockScope Block, class PoolsHeap>
CUDA_ZSTD_HD std::uint32_t block_allocate_many(Block& block, const BasicPoolRef<typename Block::Env, PoolsHeap>& pool,
                                               BlockBoard<typename Block::Env>& board, std::size_t bytes,
                                               std::uint32_t alignment, std::uint32_t count, void** blocks,
                                               Shortfall shortfall, Status& status) {
    if (block.thread() == 0) {
        block.store(board.taken, 0u);
        block.store(board.refusal, static_cast<std::uint32_t>(Status::ok));
    }
    block.sync();
    for (std::uint32_t at = block.thread(); at < count; at += block.threads()) {
        Status mine = Status::ok;
        void* const memory = pool.try_allocate(block.env(), bytes, alignment, mine);
        if (memory == nullptr) {
            block.store(board.refusal, static_cast<std::uint32_t>(mine));
            break;
        }
        blocks[block.fetch_add(board.taken, 1u)] = memory;
    }
    block.sync();
    const std::uint32_t taken = block.load(board.taken);
    status = static_cast<Status>(block.load(board.refusal));
    const bool gives_back = taken < count && shortfall == Shortfall::give_back;
    // Each thread frees and clears entries of its own: those of the first loop may be another's, hence the barrier.
    for (std::uint32_t at = block.thread(); at < count; at += block.threads()) {
        if (gives_back && at < taken) pool.deallocate(block.env(), blocks[at]);
        if (gives_back || at >= taken) blocks[at] = nullptr;
    }
    block.sync();
    return taken;
}

} // namespace cuda_zstd
