// SPDX-License-Identifier: MIT
// How blocks are taken, cut and given back.
#include "cuda_zstd/host/block_heap.hpp"

#include "coarse_clock.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr unsigned posts_worth_merging = 16;

/// Whether each of the blocks is the neighbour of the one before.
bool are_a_run(std::span<Block* const> blocks) noexcept {
    for (std::size_t i = 1; i < blocks.size(); ++i)
        if (blocks[i - 1]->end() != blocks[i]->ptr && blocks[i]->end() != blocks[i - 1]->ptr) return false;
    return true;
}

} // namespace

std::uint64_t now_ns() noexcept {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
}

BlockHeap::BlockHeap(Strategy strategy, StreamOrder& order, Settling settling)
    : strategy_(strategy), settling_(settling), order_(order), settled_(std::make_unique<Home>(strategy)),
      mixed_(std::make_unique<Home>(strategy)) {}

/// Later than the last one, also within a tick of the clock: the order of ages is that of the calls. Two threads that
/// post at once may get the same one.
std::uint64_t BlockHeap::next_stamp() noexcept {
    const std::uint64_t stamp = std::max(coarse_now_ns(), last_stamp_.load(relaxed) + 1);
    last_stamp_.store(stamp, relaxed);
    return stamp;
}

Block& BlockHeap::make(Region& region, std::byte* ptr, std::size_t bytes) {
    Block& block = make_piece(region, ptr, bytes);
    block.stamp(next_stamp());
    return block;
}

/// Without a stamp.
Block& BlockHeap::make_piece(Region& region, std::byte* ptr, std::size_t bytes) {
    Block& block = store_.take();
    block.ptr = ptr;
    block.bytes = bytes;
    block.before = block.after = nullptr;
    block.region = &region;
    block.state = Block::State::live;
    return block;
}

void BlockHeap::give(Block& block, Dependencies dependencies) noexcept {
    block.dependencies = std::move(dependencies);
    make_pending(block, next_stamp(), pending_.end());
}

bool BlockHeap::post(std::span<Block* const> blocks) noexcept {
    // Before they are others' to merge.
    const bool is_worth_merging = goes_on(blocks);
    const std::uint64_t time_ns = next_stamp();
    Block* newest = nullptr;
    for (Block* block : blocks)
        block->node.posted = {std::exchange(newest, block), time_ns};
    Block*& last = blocks.front()->node.posted.next;
    last = posted_.load(std::memory_order_relaxed);
    // All are taken at once, so it does no harm if the newest was taken, and posted again, in between.
    while (!posted_.compare_exchange_weak(last, newest, std::memory_order_release, std::memory_order_relaxed)) {
    }
    return is_worth_merging;
}

/// Whether so much lies side by side that it is worth a lock to merge it. Remembers where the blocks lie.
bool BlockHeap::goes_on(std::span<Block* const> blocks) noexcept {
    const Block& first = *blocks.front();
    const Block& last = *blocks.back();
    const std::byte* const begin = std::min(first.ptr, last.ptr);
    const std::byte* const end = std::max(first.end(), last.end());
    const bool is_beside = begin == last_end_.load(relaxed) || end == last_begin_.load(relaxed);
    last_begin_.store(begin, relaxed);
    last_end_.store(end, relaxed);
    if (blocks.size() > 1) return are_a_run(blocks);
    const unsigned beside = is_beside ? beside_.load(relaxed) + 1 : 0;
    beside_.store(beside % posts_worth_merging, relaxed);
    return beside == posts_worth_merging;
}

bool BlockHeap::post(std::span<Block* const> blocks, const TicketRef& ticket) noexcept {
    if (ticket != nullptr) {
        ticket->references.fetch_add(static_cast<std::uint32_t>(blocks.size()), std::memory_order_relaxed);
        for (Block* block : blocks)
            block->dependencies = Dependencies(TicketRef(ticket.get(), false));
    }
    return post(blocks);
}

/// For a block in no list.
Taken BlockHeap::hand_out(Block& block) {
    block.state = Block::State::live;
    block.stamp(next_stamp());
    --free_blocks_;
    free_bytes_ -= block.bytes;
    Taken taken{&block, std::move(block.dependencies), Origin::own};
    block.dependencies.clear();
    return taken;
}

/// A program that allocates what it has just freed gets it back with no search: nothing fits better.
Taken BlockHeap::take_last_freed(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id) {
    if (strategy_ == Strategy::first_fit || pending_.empty()) return {};
    Block& block = pending_.back();
    if (block.bytes != bytes || !fits(block, bytes, alignment)) return {};
    if (!block.dependencies.empty() && block.dependencies.sole_stream() != stream_id) return {};
    pending_.pop_back();
    return hand_out(block);
}

Taken BlockHeap::carve(Block& block, std::byte* from, std::size_t bytes) {
    const auto low_bytes = static_cast<std::size_t>(from - block.ptr);
    const std::size_t high_bytes = block.bytes - low_bytes - bytes;
    // What can fail comes first.
    store_.prepare((low_bytes != 0 ? 1 : 0) + (high_bytes != 0 ? 1 : 0));
    Dependencies of_low = low_bytes != 0 ? block.dependencies : Dependencies();
    Dependencies of_high = high_bytes != 0 ? block.dependencies : Dependencies();
    Home& home = *block.home;
    home.index->prepare(block.bytes, 2);
    const std::uint64_t timestamp = block.timestamp;
    // What is left keeps the block's place in the order of the frees.
    const AgeList::iterator place = unlist(block);
    const auto insert_after = [&](Block& at, std::byte* ptr, std::size_t piece_bytes) -> Block& {
        Block& piece = make_piece(*at.region, ptr, piece_bytes);
        piece.before = &at;
        piece.after = at.after;
        if (piece.after != nullptr) piece.after->before = &piece;
        at.after = &piece;
        at.bytes -= piece_bytes;
        ++free_blocks_;
        return piece;
    };
    Block* middle = &block;
    if (low_bytes != 0) {
        middle = &insert_after(block, from, block.bytes - low_bytes);
        middle->dependencies = std::move(block.dependencies);
        block.dependencies = std::move(of_low);
        list_before(block, home, place);
    }
    if (high_bytes != 0) {
        Block& rest = insert_after(*middle, from + bytes, high_bytes);
        rest.dependencies = std::move(of_high);
        rest.stamp(timestamp);
        list_before(rest, home, place);
    }
    return hand_out(*middle);
}

Taken BlockHeap::cut(Block& block, std::size_t bytes, std::size_t alignment) {
    return carve(block, aligned_up(block.ptr, alignment), bytes);
}

Block* BlockHeap::choose(Home* own, std::size_t bytes, std::size_t alignment, Search search) const {
    const auto find_in = [&](const Home& home) {
        return search == Search::quick ? home.index->find(bytes, alignment) : home.index->search(bytes, alignment);
    };
    Block* of_own = own == nullptr ? nullptr : find_in(*own);
    Block* of_settled = find_in(*settled_);
    if (of_own == nullptr || of_settled == nullptr) return of_own != nullptr ? of_own : of_settled;
    switch (strategy_) {
    case Strategy::best_fit:
        return of_settled->bytes < of_own->bytes ? of_settled : of_own;
    case Strategy::first_fit:
        return of_settled->ptr < of_own->ptr ? of_settled : of_own;
    case Strategy::segregated:
        break;
    }
    return of_own;
}

Taken BlockHeap::take_ready(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id, Search search) {
    if (Taken last = take_last_freed(bytes, alignment, stream_id)) return last;
    file_pending();
    if (free_bytes_ < bytes) return {};
    Block* found = choose(own_home(stream_id), bytes, alignment, Search::quick);
    if (settling_ == Settling::where_none_fits_exactly && (found == nullptr || found->bytes != bytes))
        if (Home* own = own_home(stream_id); own != nullptr && settle(*own, stream_id))
            found = choose(own, bytes, alignment, Search::quick);
    if (found == nullptr) {
        // Where little is to be mapped, the stream's own tickets are asked for too: what they cover is merged the
        // sooner.
        settle(settling_ == Settling::where_none_fits_exactly ? StreamOrder::no_stream : stream_id);
        found = choose(own_home(stream_id), bytes, alignment, Search::quick);
    }
    if (found == nullptr && search == Search::thorough)
        found = choose(own_home(stream_id), bytes, alignment, Search::thorough);
    if (found == nullptr)
        if (Home* own = own_home(stream_id)) found = join_with_settled(*own, bytes, alignment);
    return found == nullptr ? Taken{} : cut(*found, bytes, alignment);
}

Taken BlockHeap::take_any(std::size_t bytes, std::size_t alignment, Within within) {
    if (free_bytes_ < bytes) return {};
    file_pending();
    settle();
    Block* found = nullptr;
    if (within == Within::recorded) {
        found = smallest_recorded(bytes, alignment);
    } else {
        found = choose(nullptr, bytes, alignment, Search::thorough);
        for (const auto& [id, home] : streams_) {
            Block* candidate = home->index->search(bytes, alignment);
            if (candidate != nullptr && (found == nullptr || candidate->bytes < found->bytes)) found = candidate;
        }
        if (found == nullptr) found = mixed_->index->search(bytes, alignment);
    }
    if (found == nullptr) found = join_any(bytes, alignment, Within::recorded);
    if (found == nullptr && within == Within::all) found = join_any(bytes, alignment, Within::all);
    return found == nullptr ? Taken{} : cut(*found, bytes, alignment);
}

Dependencies BlockHeap::dissolve(Region& region) {
    Dependencies united;
    for (const Block* block = region.first; block != nullptr; block = block->after)
        united.add(block->dependencies);
    TicketReleases releases;
    for (Block* block = region.first; block != nullptr;) {
        Block* after = block->after;
        --free_blocks_;
        free_bytes_ -= block->bytes;
        drop_absorbed(*block, releases);
        block = after;
    }
    region.first = nullptr;
    return united;
}

void BlockHeap::clear() {
    posted_.store(nullptr, std::memory_order_relaxed);
    pending_.clear();
    last_home_ = nullptr;
    settled_ = std::make_unique<Home>(strategy_);
    mixed_ = std::make_unique<Home>(strategy_);
    streams_.clear();
    store_.clear();
    free_blocks_ = 0;
    free_bytes_ = 0;
}

std::vector<Block*> BlockHeap::settled_by_age(std::size_t bytes) const {
    std::vector<Block*> blocks;
    settled_->index->for_each_from(bytes, [&](Block& block) { blocks.push_back(&block); });
    std::sort(blocks.begin(), blocks.end(), [](const Block* a, const Block* b) {
        return a->timestamp != b->timestamp ? a->timestamp < b->timestamp : a->ptr < b->ptr;
    });
    return blocks;
}

} // namespace cuda_zstd::detail
