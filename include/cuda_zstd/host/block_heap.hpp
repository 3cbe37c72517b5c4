// SPDX-License-Identifier: MIT
// Free blocks of several regions, by the work that they wait for.
//
// Invariant: every free block is in one home: `settled` (no dependencies), the home of the one stream that all its
// dependencies are of, or `mixed`; or it is pending: freed and not looked at since. Neighbours of one home are merged.
// So a stream finds its own and the settled blocks without asking about any event, and never waits for another stream
// because of a neighbour. Whoever searches the homes files the pending blocks first, so what give() puts off is
// never skipped.
// Not synchronised but for post(): each pool that has a heap guards it with its mutex.
#pragma once

#include "cuda_zstd/host/block.hpp"
#include "cuda_zstd/host/free_block_index.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace cuda_zstd::detail {

/// The free blocks that wait for the same stream.
struct Home {
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

/// Which work a request can be made to wait for: all, or only what is recorded, since a capture forbids to wait for
/// what is not.
enum class Within : std::uint8_t { recorded, all };

/// How a heap looks for a block: as the strategy does, or at every block before it says that there is none.
enum class Search : std::uint8_t { quick, thorough };

/// When blocks whose work is done become settled ones. Before that they are not merged with settled neighbours, so that
/// a search sees two small holes instead of a large one.
enum class Settling : std::uint8_t {
    /// When nothing fits.
    after_a_miss,
    /// Those of the searching stream also when nothing fits exactly: one query of an event a search. When nothing fits,
    /// its own open tickets are asked for, too.
    where_none_fits_exactly,
};

class BlockHeap {
public:
    BlockHeap(Strategy strategy, StreamOrder& order, Settling settling = Settling::after_a_miss);
    ~BlockHeap() { pending_.clear(); }

    /// Makes a block of a region; the caller links it. State: live.
    Block& make(Region& region, std::byte* ptr, std::size_t bytes);
    /// Frees a live block. O(1): the merging and the index are left to whoever searches next.
    void give(Block& block, Dependencies dependencies) noexcept;
    /// The same of one or more blocks that have their dependencies, by any thread, with no lock: they are given by the
    /// next receive(). One atomic operation, as a rule. True where the blocks are neighbours of each other, or each of
    /// the last 16 posts was beside the one before: then merge_pending() finds them in the cache.
    bool post(std::span<Block* const> blocks) noexcept;
    /// The same of blocks that all depend on one ticket (null: on nothing), which is counted once for all.
    bool post(std::span<Block* const> blocks, const TicketRef& ticket) noexcept;
    bool has_posted() const noexcept { return posted_.load(std::memory_order_relaxed) != nullptr; }
    /// Gives what was posted, in the order of the posts, and visits each block, the newest first. For who has the lock,
    /// before all else.
    template <class Visit>
    void receive(const Visit& visit) noexcept {
        if (!has_posted()) return;
        Block* newest = posted_.exchange(nullptr, std::memory_order_acquire);
        for (AgeList::iterator place = pending_.end(); newest != nullptr;) {
            Block& block = *std::exchange(newest, newest->node.posted.next);
            place = make_pending(block, block.node.posted.time_ns, place);
            visit(block);
        }
    }
    /// A block whose dependencies, if any, are of the stream itself: its own or settled ones, then what has become
    /// complete, then a run of its own and settled neighbours that makes one. No wait, and queries of events only as
    /// `Settling` says. The block that was freed last is taken as it is where it fits exactly (not by first fit), else
    /// O(log n), segregated O(1), and once for each block that was freed since the last search.
    Taken take_ready(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id, Search search = Search::quick);
    /// A block of any home, or made of a run of neighbours of several homes where nothing else fits: of the shortest,
    /// and without open tickets where that will do. Thorough.
    Taken take_any(std::size_t bytes, std::size_t alignment, Within within);
    /// Moves completed blocks to the settled ones. Open tickets are asked for, but for those of the stream that asks.
    void settle(std::uint64_t asking_stream_id = StreamOrder::no_stream);
    /// Brings the pending blocks to their homes, merged with their neighbours there.
    void file_pending();
    /// A block that is pending, whoever's it is by now, takes in those on both sides that are pending too and would go
    /// to the same home: the next search or trim finds one block. No index is touched.
    void merge_pending(Block& block) noexcept;
    /// What the free blocks wait for, united: once it is complete, settle() settles all of them.
    Dependencies pending() const;
    /// Cuts a free block so that [from, from + bytes) is a block of its own; returns that one, live, with its
    /// dependencies. Strong guarantee.
    Taken carve(Block& block, std::byte* from, std::size_t bytes);
    /// Forgets a region whose blocks are all free; what they waited for. O(blocks).
    Dependencies dissolve(Region& region);
    /// Forgets a block that is in no home, with its region.
    void discard(Block& block) { store_.give(block); }
    /// Forgets everything. Regions are the caller's.
    void clear();

    /// Free blocks of at least `bytes` that are settled, least recently used first. O(n log n) in these alone.
    std::vector<Block*> settled_by_age(std::size_t bytes) const;
    std::size_t free_blocks() const noexcept { return free_blocks_; }
    std::size_t free_bytes() const noexcept { return free_bytes_; }
    std::size_t largest_free_bytes() const noexcept;
    std::size_t metadata_bytes() const noexcept { return store_.metadata_bytes(); }
    void for_each_free(const std::function<void(const Block&)>& visit) const;
    /// Merges a block that the caller holds (in no home) with a neighbour in no home; returns the merged block.
    Block& merge_unlisted(Block& low, Block& high);
    /// Empty when all is sound, else what is wrong. O(n).
    std::string check(const std::vector<const Region*>& regions) const;

private:
    /// Neighbours that together hold a request.
    struct Run {
        Block* first = nullptr;
        Block* last = nullptr;
        std::size_t bytes = 0;
    };

    Block& make_piece(Region& region, std::byte* ptr, std::size_t bytes);
    Home& home_of(const Dependencies& dependencies);
    const Home* home_if_made(const Dependencies& dependencies) const noexcept;
    Home* own_home(std::uint64_t stream_id) const noexcept;
    void list_before(Block& block, Home& home, AgeList::iterator place) noexcept;
    AgeList::iterator unlist(Block& block) noexcept;
    bool goes_on(std::span<Block* const> blocks) noexcept;
    std::uint64_t next_stamp() noexcept;
    AgeList::iterator make_pending(Block& block, std::uint64_t time_ns, AgeList::iterator place) noexcept {
        block.state = Block::State::pending;
        block.stamp(time_ns);
        ++free_blocks_;
        free_bytes_ += block.bytes;
        return pending_.insert(place, block);
    }
    void unfile(Block& block) noexcept;
    void file(Block& block);
    void move_to_settled(Block& block);
    bool settle(Home& home, std::uint64_t asking_stream_id);
    bool may_absorb(const Home& home, Block& neighbour) const noexcept;
    template <class Absorbs>
    void absorb_neighbours(Block& block, const Absorbs& absorbs);
    void absorb_after(Block& block, TicketReleases& releases);
    void drop_absorbed(Block& block, TicketReleases& releases) noexcept;
    Block* choose(Home* own, std::size_t bytes, std::size_t alignment, Search search) const;
    Taken take_last_freed(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id);
    Taken cut(Block& block, std::size_t bytes, std::size_t alignment);
    Taken hand_out(Block& block);
    template <class Visit>
    void for_each_filed(const Visit& visit) const;
    Block* smallest_recorded(std::size_t bytes, std::size_t alignment) const;
    template <class Joins>
    static void find_run(Block& start, std::size_t bytes, std::size_t alignment, const Joins& joins, Run& best);
    Block* join(const Run& run);
    Block* join_with_settled(Home& own, std::size_t bytes, std::size_t alignment);
    Block* join_any(std::size_t bytes, std::size_t alignment, Within within);

    Strategy strategy_;
    Settling settling_;
    StreamOrder& order_;
    BlockStore store_;
    /// Newest first.
    alignas(64) std::atomic<Block*> posted_{nullptr};
    /// Beside it, since who posts writes both.
    std::atomic<std::uint64_t> last_stamp_{0};
    /// The addresses of the last post, and how many in a row were beside the one before: hints, which threads that post
    /// at once may mix up.
    std::atomic<const std::byte*> last_begin_{nullptr};
    std::atomic<const std::byte*> last_end_{nullptr};
    std::atomic<unsigned> beside_{0};
    /// Freed and not yet filed, oldest first.
    alignas(64) AgeList pending_;
    std::unique_ptr<Home> settled_;
    std::unique_ptr<Home> mixed_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Home>> streams_;
    /// The stream whose home was looked up last.
    mutable std::uint64_t last_stream_id_ = 0;
    mutable Home* last_home_ = nullptr;
    std::size_t free_blocks_ = 0;
    std::size_t free_bytes_ = 0;
};

/// Nanoseconds of the steady clock.
std::uint64_t now_ns() noexcept;

} // namespace cuda_zstd::detail
