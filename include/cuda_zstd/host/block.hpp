// SPDX-License-Identifier: MIT
// A piece of an arena or of a span, described outside of it.
//
// Invariant: the blocks of a region, followed by `after` from its first one, cover it without gap or overlap. A free
// block is in exactly one index and in one home's list, or in its heap's list of those that were freed last
// (`pending`); a live or unmapped one is in none. Who frees a live block may post it (BlockHeap::post()) with no lock
// held: till the heap receives it, it is live for everybody else. A block is two cache lines, 128 B: all that a search
// reads is in the first one.
#pragma once

#include "cuda_zstd/host/stream_order.hpp"

#include <boost/intrusive/list.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace cuda_zstd::detail {

/// All addresses and sizes of blocks are multiples of this.
inline constexpr unsigned granule_shift = 8;
inline constexpr std::size_t granule_bytes = std::size_t{1} << granule_shift;

constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) noexcept {
    return (bytes + unit - 1) / unit * unit;
}

struct Block;

/// The heap that a block belongs to; each heap derives its own (arena, span).
struct Region {
    Block* first = nullptr;
};

/// A free block's place in the index of its home: three words, in the form of the strategy; before that, its place
/// among the blocks that are posted.
struct IndexNode {
    /// First fit: a treap over addresses; `largest_bytes` is the largest block below, this one included.
    struct Treap {
        Block* left;
        Block* right;
        std::size_t largest_bytes;
    };
    /// Best fit and segregated: a list for each size or size class.
    struct Bin {
        Block* previous;
        Block* next;
    };
    /// Freed with no lock, and not seen by the heap yet.
    struct Posted {
        Block* next;
        std::uint64_t time_ns;
    };
    union {
        Treap treap{};
        Bin bin;
        Posted posted;
    };
};

struct alignas(64) Block {
    enum class State : std::uint8_t { live, pending, free, unmapped };

    std::byte* ptr = nullptr;
    std::size_t bytes = 0;
    IndexNode node;
    /// The home that lists a free block, else null.
    struct Home* home = nullptr;
    Block* before = nullptr;
    Block* after = nullptr;

    // The second cache line.
    boost::intrusive::list_member_hook<> age_hook;
    Dependencies dependencies;
    Region* region = nullptr;
    /// Of the last change of state, in nanoseconds of the steady clock: 62 bits are 146 years.
    std::uint64_t timestamp : 62 = 0;
    State state : 2 = State::live;

    std::byte* end() const noexcept { return ptr + bytes; }
    void stamp(std::uint64_t time_ns) noexcept { timestamp = time_ns & ~std::uint64_t{0} >> 2; }
};
static_assert(sizeof(Block) <= 128, "the metadata of a block is bounded");

/// Blocks in order of time, oldest first, or those that are not in use.
using AgeList = boost::intrusive::list<
    Block, boost::intrusive::member_hook<Block, boost::intrusive::list_member_hook<>, &Block::age_hook>>;

/// Makes blocks and keeps those that are not in use for the next ones.
class BlockStore {
public:
    BlockStore() = default;
    ~BlockStore() { spare_.clear(); }
    BlockStore(const BlockStore&) = delete;
    BlockStore& operator=(const BlockStore&) = delete;

    /// So many calls of take() will not throw. Throws `std::bad_alloc`.
    void prepare(std::size_t blocks) {
        while (spare_.size() < blocks)
            add();
    }
    Block& take() {
        prepare(1);
        Block& block = spare_.back();
        spare_.pop_back();
        return block;
    }
    /// Of a block in no list.
    void give(Block& block) noexcept {
        block.dependencies.clear();
        put(block);
    }
    void give(Block& block, TicketReleases& releases) noexcept {
        block.dependencies.clear(releases);
        put(block);
    }
    /// Forgets all blocks, those in use as well.
    void clear() noexcept {
        spare_.clear();
        batches_.clear();
    }
    /// What the blocks occupy, in use or not.
    std::size_t metadata_bytes() const noexcept { return blocks_ * sizeof(Block); }

private:
    static constexpr std::size_t first_batch = 64;
    static constexpr std::size_t largest_batch = 4096;

    void put(Block& block) noexcept {
        block.home = nullptr;
        block.region = nullptr;
        spare_.push_back(block);
    }
    void add() {
        // An eighth more each time, so little is held that is not used.
        const std::size_t count = std::min(std::max(first_batch, blocks_ / 8), largest_batch);
        batches_.reserve(batches_.size() + 1);
        batches_.push_back(std::make_unique<Block[]>(count));
        for (std::size_t i = count; i-- != 0;)
            spare_.push_back(batches_.back()[i]);
        blocks_ += count;
    }

    std::vector<std::unique_ptr<Block[]>> batches_;
    AgeList spare_;
    std::size_t blocks_ = 0;
};

} // namespace cuda_zstd::detail
