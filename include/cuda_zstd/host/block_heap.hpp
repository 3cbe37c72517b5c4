// SPDX-License-Identifier: MIT
// Free blocks of several regions, by the work that they wait for.
//
// Invariant: every free block is in one home: `settled` (no dependencies), the home of the one stream that all its
// dependencies are of, or `mixed`. Neighbours of one home are merged. So a stream finds its own and the settled
// blocks without asking about any event, and never waits for another stream because of a neighbour.
// Not synchronised: each pool that has a heap guards it with its mutex.
#pragma once

#include "cuda_zstd/host/block.hpp"
#include "cuda_zstd/host/free_block_index.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace cuda_zstd::detail {

/// The free blocks that wait for the same stream.
struct Home {
    using AgeList = boost::intrusive::list<
        Block, boost::intrusive::member_hook<Block, boost::intrusive::list_member_hook<>, &Block::age_hook>>;

    explicit Home(Strategy strategy) : index(FreeBlockIndex::make(strategy)) {}
    ~Home() { by_age.clear(); }
    Home(const Home&) = delete;
    Home& operator=(const Home&) = delete;

    std::unique_ptr<FreeBlockIndex> index;
    /// In the order of the frees, oldest first.
    AgeList by_age;
};

/// Whether the pool that was asked had the block itself.
enum class Origin : std::uint8_t { own, larger_pool, source };

/// A block that is taken, and what must be waited for before it is used.
struct Taken {
    Block* block = nullptr;
    Dependencies dependencies;
    Origin origin = Origin::own;
    explicit operator bool() const noexcept { return block != nullptr; }
};

class BlockHeap {
public:
    BlockHeap(Strategy strategy, StreamOrder& order);

    /// Makes a block of a region; the caller links it. State: live.
    Block& make(Region& region, std::byte* ptr, std::size_t bytes);
    /// Frees a live block and merges it with neighbours of its home. O(log n).
    void give(Block& block, Dependencies dependencies);
    /// A block whose dependencies, if any, are of the stream itself: its own or settled ones, then what has become
    /// complete, then its own merged with settled neighbours. No wait, so queries of events only on a miss.
    Taken take_ready(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id);
    /// A block of any home, merging across homes where nothing else fits.
    Taken take_any(std::size_t bytes, std::size_t alignment);
    /// Moves completed blocks to the settled ones.
    void settle();
    /// What the free blocks wait for, united: once it is complete, settle() settles all of them.
    Dependencies pending() const;
    /// Cuts a free block so that [from, from + bytes) is a block of its own; returns that one, live, with its
    /// dependencies.
    Taken carve(Block& block, std::byte* from, std::size_t bytes);
    /// Forgets a region whose blocks are all free; what they waited for.
    Dependencies dissolve(Region& region);
    /// Forgets a block that is in no home, with its region.
    void discard(Block& block) { dispose(block); }
    /// Forgets everything. Regions are the caller's.
    void clear();

    /// Free blocks that are settled, least recently used first.
    std::vector<Block*> settled_by_age() const;
    std::size_t free_blocks() const noexcept { return free_blocks_; }
    std::size_t free_bytes() const noexcept { return free_bytes_; }
    std::size_t largest_free_bytes() const noexcept;
    void for_each_free(const std::function<void(const Block&)>& visit) const;
    /// Merges a block that the caller holds (in no home) with a neighbour in no home; returns the merged block.
    Block& merge_unlisted(Block& low, Block& high);
    /// Empty when all is sound, else what is wrong. O(n).
    std::string check(const std::vector<const Region*>& regions) const;

private:
    Home& home_of(const Dependencies& dependencies);
    Home* own_home(std::uint64_t stream_id);
    void list(Block& block, Home& home);
    void unlist(Block& block);
    void place(Block& block);
    void absorb_neighbours(Block& block, const std::function<bool(const Block&)>& may_absorb);
    Block* choose(Home* own, std::size_t bytes, std::size_t alignment) const;
    Taken cut(Block& block, std::size_t bytes, std::size_t alignment);
    void join_with_settled(Home& own);
    void join_all();
    void dispose(Block& block);

    Strategy strategy_;
    StreamOrder& order_;
    std::deque<Block> blocks_;
    std::vector<Block*> spare_;
    std::unique_ptr<Home> settled_;
    std::unique_ptr<Home> mixed_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Home>> streams_;
    std::size_t free_blocks_ = 0;
    std::size_t free_bytes_ = 0;
};

/// Nanoseconds of the steady clock.
std::uint64_t now_ns() noexcept;

} // namespace cuda_zstd::detail
