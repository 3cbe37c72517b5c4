// SPDX-License-Identifier: MIT
// A piece of an arena or of a span, described outside of it.
//
// Invariant: the blocks of a region, followed by `after` from its first one, cover it without gap or overlap. A free
// block is in exactly one index and in one home's list; a live or unmapped one is in none.
#pragma once

#include "cuda_zstd/host/stream_order.hpp"

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>

#include <cstddef>
#include <cstdint>

namespace cuda_zstd::detail {

/// All addresses and sizes of blocks are multiples of this.
inline constexpr std::size_t granule_bytes = 256;

constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) noexcept {
    return (bytes + unit - 1) / unit * unit;
}

/// The heap that a block belongs to; each heap derives its own (arena, span).
struct Region;

struct Block {
    enum class State : std::uint8_t { live, free, unmapped };

    std::byte* ptr = nullptr;
    std::size_t bytes = 0;
    Block* before = nullptr;
    Block* after = nullptr;
    Region* region = nullptr;
    State state = State::live;
    /// Of the last change of state, in nanoseconds.
    std::uint64_t timestamp = 0;
    Dependencies dependencies;
    /// The home that lists a free block: 0 for settled ones, else see BlockHeap.
    struct Home* home = nullptr;

    boost::intrusive::set_member_hook<> size_hook;
    boost::intrusive::list_member_hook<> bin_hook;
    boost::intrusive::list_member_hook<> age_hook;
    /// First fit: a node of a treap over addresses; `subtree_bytes` is the largest block below, itself included.
    Block* left = nullptr;
    Block* right = nullptr;
    std::size_t subtree_bytes = 0;

    std::byte* end() const noexcept { return ptr + bytes; }
};

struct Region {
    Block* first = nullptr;
};

} // namespace cuda_zstd::detail
