// SPDX-License-Identifier: MIT
// The pool vector of one warp: a list that it builds inside a kernel and whose length is not known beforehand. It costs
// no atomic of its own, and its elements lie in blocks that are walked in order; PoolVector (pool_vector.hpp) is what
// many warps append to.
//
// Invariant: every block except the last is full; blocks are doubly linked, oldest first, and each was
// allocated by the warp from the pool and is freed exactly once. The members hold the same values in all lanes of
// the warp; elements and links live in the pool's memory and are written by lane 0.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/env/whole_warp.hpp"

#include <cstdint>

namespace cuda_zstd {

/// A growable list of `T` in blocks of a pool: append at the end, walk forwards block by block, consume backwards.
///
/// Every member function is called by all lanes of the warp with the same arguments. Blocks grow from
/// `smallest_block_bytes`, doubling, to `largest_block_bytes`, so a list of n elements costs O(log n) allocations up
/// to the largest block and one for each such block after that, and at most half of the memory it holds is unused.
/// The owner calls `clear`: there is no destructor, since freeing needs the environment and the pool.
template <class T, class Env, class Pool>
class WarpPoolVector {
public:
    static constexpr std::uint32_t smallest_block_bytes = 256;
    static constexpr std::uint32_t largest_block_bytes = 16384;

    /// The head of a block; its elements follow. 32 bytes, so that elements keep the pool's 16-byte alignment.
    struct alignas(16) Block {
        Block* previous;
        Block* next;
        std::uint32_t capacity;
        std::uint32_t bytes;

        CUDA_ZSTD_INLINE T* elements() { return reinterpret_cast<T*>(this + 1); }
        CUDA_ZSTD_INLINE const T* elements() const { return reinterpret_cast<const T*>(this + 1); }
    };
    static_assert(sizeof(Block) == 32 && alignof(T) <= 16);
    static_assert(sizeof(T) <= smallest_block_bytes - sizeof(Block), "the smallest block must hold an element");

    CUDA_ZSTD_INLINE std::uint32_t size() const { return size_; }
    /// Bytes of the blocks held now.
    CUDA_ZSTD_INLINE std::uint32_t held_bytes() const { return held_bytes_; }

    /// Appends one element. False, with the list unchanged, when the pool gave no block.
    /// Other lanes may read the element after a `sync` of the environment.
    CUDA_ZSTD_INLINE bool push_back(Env& env, Pool& pool, const T& value) {
        if (last_count_ == last_capacity_ && !grow(env, pool)) return false;
        if (env.lane() == 0) last_->elements()[last_count_] = value;
        ++last_count_;
        ++size_;
        return true;
    }

    CUDA_ZSTD_INLINE const Block* first() const { return first_; }
    CUDA_ZSTD_INLINE const Block* last() const { return last_; }
    CUDA_ZSTD_INLINE const Block* next(const Block* block) const { return block == last_ ? nullptr : block->next; }
    /// Elements of a block of this list.
    CUDA_ZSTD_INLINE std::uint32_t count(const Block* block) const {
        return block == last_ ? last_count_ : block->capacity;
    }

    /// Frees the last block with its elements; the block before it becomes the last. No effect on an empty list.
    CUDA_ZSTD_HD void drop_last_block(Env& env, Pool& pool) {
        if (last_ == nullptr) return;
        Block* const gone = last_;
        Block* const previous = gone->previous;
        held_bytes_ -= held_last_bytes_;
        size_ -= last_count_;
        last_ = previous;
        if (previous == nullptr) {
            first_ = nullptr;
            last_count_ = last_capacity_ = held_last_bytes_ = 0;
        } else {
            held_last_bytes_ = previous->bytes;
            last_count_ = last_capacity_ = previous->capacity;
        }
        env.sync(whole_warp<Env>);
        pool.deallocate_warp(env, gone);
    }

    /// Frees every block.
    CUDA_ZSTD_HD void clear(Env& env, Pool& pool) {
        while (last_ != nullptr)
            drop_last_block(env, pool);
    }

private:
    CUDA_ZSTD_INLINE bool grow(Env& env, Pool& pool) {
        std::uint32_t bytes = smallest_block_bytes;
        if (last_ != nullptr) bytes = held_last_bytes_ < largest_block_bytes ? 2 * held_last_bytes_ : held_last_bytes_;
        Block* const block = append_block(env, pool, last_, bytes);
        if (block == nullptr) return false;
        if (first_ == nullptr) first_ = block;
        last_ = block;
        last_count_ = 0;
        last_capacity_ = capacity_of(bytes);
        held_last_bytes_ = bytes;
        held_bytes_ += bytes;
        return true;
    }
    // Static, so that the list's own members may stay in registers.
    CUDA_ZSTD_RARE static Block* append_block(Env& env, Pool& pool, Block* last, std::uint32_t bytes) {
        auto* const block = static_cast<Block*>(pool.allocate_warp(env, bytes));
        if (block == nullptr) return nullptr;
        if (env.lane() == 0) {
            block->previous = last;
            block->next = nullptr;
            block->capacity = capacity_of(bytes);
            block->bytes = bytes;
            if (last != nullptr) last->next = block;
        }
        env.sync(whole_warp<Env>);
        return block;
    }
    static constexpr CUDA_ZSTD_HD std::uint32_t capacity_of(std::uint32_t bytes) {
        return static_cast<std::uint32_t>((bytes - sizeof(Block)) / sizeof(T));
    }

    Block* first_ = nullptr;
    Block* last_ = nullptr;
    std::uint32_t last_count_ = 0;
    std::uint32_t last_capacity_ = 0;
    std::uint32_t held_last_bytes_ = 0;
    std::uint32_t size_ = 0;
    std::uint32_t held_bytes_ = 0;
};

} // namespace cuda_zstd
