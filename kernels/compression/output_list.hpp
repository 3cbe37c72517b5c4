// SPDX-License-Identifier: MIT
// The compressed bytes of one chunk: a list of blocks of the pool that grows as the bytes come.
//
// Invariant: blocks are singly linked in the order of the bytes; every block except the last is full, and `bytes` of
// each block is right in memory once `finish` was called. The list outlives the kernel: the gather copies and frees it.
#pragma once

#include "bytes.hpp"

#include "cuda_zstd/env/whole_warp.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd::detail {

/// The head of a block of output; the bytes follow. 16 bytes.
struct alignas(16) OutputBlock {
    OutputBlock* next;
    std::uint32_t bytes;
    std::uint32_t capacity;

    CUDA_ZSTD_INLINE unsigned char* data() { return reinterpret_cast<unsigned char*>(this + 1); }
    CUDA_ZSTD_INLINE const unsigned char* data() const { return reinterpret_cast<const unsigned char*>(this + 1); }
};
static_assert(sizeof(OutputBlock) == 16);

/// Frees a list of blocks. All lanes of the warp call.
template <class Env, class Pool>
CUDA_ZSTD_HD void free_output(Env& env, Pool& pool, OutputBlock* block) {
    while (block != nullptr) {
        OutputBlock* const next = block->next;
        env.sync(whole_warp<Env>);
        pool.deallocate_warp(env, block);
        block = next;
    }
}

/// Appends bytes to a list of blocks. All lanes of the warp call every member with the same arguments and hold the same
/// state. `expected_bytes` is what the whole list will hold, as far as one can tell: the last block is
/// made no larger than that needs. A list that grows beyond `limit_bytes`, or gets no memory, is broken: it appends
/// nothing more, and the owner frees it.
template <class Env, class Pool>
class OutputList {
public:
    static constexpr std::uint32_t smallest_block_bytes = 256;
    static constexpr std::uint32_t largest_block_bytes = 16384;

    enum class State : std::uint8_t { good, too_long, no_memory };

    CUDA_ZSTD_INLINE OutputList(std::uint32_t expected_bytes, std::uint32_t limit_bytes)
        : expected_bytes_(expected_bytes), limit_bytes_(limit_bytes) {}

    CUDA_ZSTD_INLINE State state() const { return state_; }
    CUDA_ZSTD_INLINE std::uint32_t bytes() const { return full_bytes_ + used_; }
    CUDA_ZSTD_INLINE std::uint32_t held_bytes() const { return held_bytes_; }
    CUDA_ZSTD_INLINE OutputBlock* first() const { return first_; }

    CUDA_ZSTD_HD void append(Env& env, Pool& pool, const unsigned char* from, std::uint32_t bytes) {
        while (bytes != 0 && has_room(env, pool)) {
            const std::uint32_t room = capacity_ - used_;
            const std::uint32_t part = bytes < room ? bytes : room;
            copy_bytes(env, last_->data() + used_, from, part);
            used_ += part;
            from += part;
            bytes -= part;
        }
    }

    /// Where the next bytes go, in one piece: sets `room` to how many there may be (0 when broken). `commit` says how
    /// many were written.
    CUDA_ZSTD_INLINE unsigned char* window(Env& env, Pool& pool, std::uint32_t& room) {
        if (!has_room(env, pool)) {
            room = 0;
            return nullptr;
        }
        room = capacity_ - used_;
        return last_->data() + used_;
    }
    CUDA_ZSTD_INLINE void commit(std::uint32_t bytes) { used_ += bytes; }

    /// Writes the last block's length. The list may be handed to another kernel afterwards.
    CUDA_ZSTD_HD void finish(Env& env) {
        if (last_ != nullptr && env.lane() == 0) last_->bytes = used_;
        env.sync(whole_warp<Env>);
    }

    CUDA_ZSTD_HD void clear(Env& env, Pool& pool) {
        free_output(env, pool, first_);
        first_ = last_ = nullptr;
        full_bytes_ = used_ = capacity_ = held_bytes_ = 0;
    }

private:
    CUDA_ZSTD_INLINE bool has_room(Env& env, Pool& pool) {
        if (state_ != State::good) return false;
        return used_ < capacity_ ? true : grow(env, pool);
    }

    CUDA_ZSTD_INLINE bool grow(Env& env, Pool& pool) {
        if (bytes() >= limit_bytes_) {
            state_ = State::too_long;
            return false;
        }
        const std::uint32_t block_bytes = next_block_bytes();
        OutputBlock* const block = append_block(env, pool, last_, used_, block_bytes);
        if (block == nullptr) {
            state_ = State::no_memory;
            return false;
        }
        if (first_ == nullptr) first_ = block;
        last_ = block;
        full_bytes_ += used_;
        held_bytes_ += block_bytes;
        used_ = 0;
        capacity_ = block_bytes - static_cast<std::uint32_t>(sizeof(OutputBlock));
        return true;
    }
    CUDA_ZSTD_INLINE std::uint32_t next_block_bytes() const {
        const std::uint32_t left = expected_bytes_ > bytes() ? expected_bytes_ - bytes() : 0;
        if (left + sizeof(OutputBlock) <= smallest_block_bytes) return smallest_block_bytes;
        if (left + sizeof(OutputBlock) >= largest_block_bytes) return largest_block_bytes;
        // Up to the next of four steps a doubling, as the pool's size classes go.
        const std::uint32_t needed = left + static_cast<std::uint32_t>(sizeof(OutputBlock));
        const std::uint32_t step = 1u << (highest_bit(needed - 1) - 2);
        return (needed + step - 1) & ~(step - 1);
    }
    // Static, so that the list's own members may stay in registers.
    CUDA_ZSTD_RARE static OutputBlock* append_block(Env& env, Pool& pool, OutputBlock* last, std::uint32_t last_used,
                                                    std::uint32_t block_bytes) {
        auto* const block = static_cast<OutputBlock*>(pool.allocate_warp(env, block_bytes));
        if (block == nullptr) return nullptr;
        if (env.lane() == 0) {
            block->next = nullptr;
            block->bytes = 0;
            block->capacity = block_bytes - static_cast<std::uint32_t>(sizeof(OutputBlock));
            if (last != nullptr) {
                last->next = block;
                last->bytes = last_used;
            }
        }
        env.sync(whole_warp<Env>);
        return block;
    }

    OutputBlock* first_ = nullptr;
    OutputBlock* last_ = nullptr;
    std::uint32_t full_bytes_ = 0;
    std::uint32_t used_ = 0;
    std::uint32_t capacity_ = 0;
    std::uint32_t held_bytes_ = 0;
    std::uint32_t expected_bytes_;
    std::uint32_t limit_bytes_;
    State state_ = State::good;
};

} // namespace cuda_zstd::detail
