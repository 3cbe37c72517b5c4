// SPDX-License-Identifier: MIT
// How free blocks come to their homes and change them: by filing, by completed work, by a wait, by merging; and what
// is said of them all.
#include "cuda_zstd/host/block_heap.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace cuda_zstd::detail {
namespace {

/// Blocks of several streams that are asked about in one settle.
constexpr unsigned mixed_queries = 8;
/// Homes of streams that are kept although empty.
constexpr std::size_t idle_homes = 64;

/// What others have found complete meanwhile costs no query.
void drop_complete(Dependencies& dependencies) {
    if (dependencies.empty()) return;
    dependencies.remove_if([](const TicketRef& ticket) {
        return ticket->state.load(std::memory_order_acquire) == Ticket::State::complete;
    });
}

} // namespace

Home* BlockHeap::own_home(std::uint64_t stream_id) const noexcept {
    if (last_home_ != nullptr && last_stream_id_ == stream_id) return last_home_;
    const auto found = streams_.find(stream_id);
    if (found == streams_.end()) return nullptr;
    last_stream_id_ = stream_id;
    return last_home_ = found->second.get();
}

/// Null where the home is still to be made.
const Home* BlockHeap::home_if_made(const Dependencies& dependencies) const noexcept {
    if (dependencies.empty()) return settled_.get();
    const auto stream_id = dependencies.sole_stream();
    return stream_id ? own_home(*stream_id) : mixed_.get();
}

Home& BlockHeap::home_of(const Dependencies& dependencies) {
    if (const Home* made = home_if_made(dependencies)) return const_cast<Home&>(*made);
    auto fresh = std::make_unique<Home>(strategy_);
    return *(streams_[*dependencies.sole_stream()] = std::move(fresh));
}

void BlockHeap::list_before(Block& block, Home& home, AgeList::iterator place) noexcept {
    block.state = Block::State::free;
    block.home = &home;
    home.index->insert(block);
    home.by_age.insert(place, block);
}

/// Where the block was in the order of the frees.
AgeList::iterator BlockHeap::unlist(Block& block) noexcept {
    Home& home = *block.home;
    block.home = nullptr;
    home.index->erase(block);
    return home.by_age.erase(home.by_age.iterator_to(block));
}

/// Takes a block out of its home, to be filed anew: if that fails, the block is where the next search finds it.
void BlockHeap::unfile(Block& block) noexcept {
    unlist(block);
    block.state = Block::State::pending;
    pending_.push_front(block);
}

bool BlockHeap::may_absorb(const Home& home, Block& neighbour) const noexcept {
    if (neighbour.state != Block::State::pending) return neighbour.home == &home;
    if (!neighbour.dependencies.complete()) drop_complete(neighbour.dependencies);
    return &home == (neighbour.dependencies.complete() ? settled_.get() : home_if_made(neighbour.dependencies));
}

/// Forgets a free block whose memory is another's now.
void BlockHeap::drop_absorbed(Block& block, TicketReleases& releases) noexcept {
    if (block.state == Block::State::pending)
        pending_.erase(pending_.iterator_to(block));
    else
        unlist(block);
    store_.give(block, releases);
}

/// `block` is pending and keeps its identity.
void BlockHeap::absorb_after(Block& block, TicketReleases& releases) {
    Block& high = *block.after;
    if (!high.dependencies.complete()) block.dependencies.add(std::move(high.dependencies));
    block.bytes += high.bytes;
    block.after = high.after;
    if (block.after != nullptr) block.after->before = &block;
    block.stamp(std::max<std::uint64_t>(block.timestamp, high.timestamp));
    --free_blocks_;
    drop_absorbed(high, releases);
}

/// Takes in those neighbours. `block` is pending; a lower neighbour's place in the region becomes its own.
template <class Absorbs>
void BlockHeap::absorb_neighbours(Block& block, const Absorbs& absorbs) {
    TicketReleases releases;
    while (block.after != nullptr && absorbs(*block.after))
        absorb_after(block, releases);
    while (block.before != nullptr && absorbs(*block.before)) {
        Block& low = *block.before;
        if (!low.dependencies.complete()) block.dependencies.add(std::move(low.dependencies));
        block.ptr = low.ptr;
        block.bytes += low.bytes;
        block.before = low.before;
        if (block.before != nullptr)
            block.before->after = &block;
        else
            block.region->first = &block;
        block.stamp(std::max<std::uint64_t>(block.timestamp, low.timestamp));
        --free_blocks_;
        drop_absorbed(low, releases);
    }
}

Block& BlockHeap::merge_unlisted(Block& low, Block& high) {
    low.bytes += high.bytes;
    low.after = high.after;
    if (high.after != nullptr) high.after->before = &low;
    low.stamp(std::max<std::uint64_t>(low.timestamp, high.timestamp));
    store_.give(high);
    return low;
}

/// Brings a pending block to its home.
void BlockHeap::file(Block& block) {
    drop_complete(block.dependencies);
    const Home& before = home_of(block.dependencies);
    absorb_neighbours(block, [&](Block& neighbour) { return may_absorb(before, neighbour); });
    Home& home = home_of(block.dependencies);
    home.index->prepare(block.bytes, 1);
    pending_.erase(pending_.iterator_to(block));
    list_before(block, home, home.by_age.end());
}

void BlockHeap::file_pending() {
    while (!pending_.empty())
        file(pending_.front());
}

void BlockHeap::merge_pending(Block& block) noexcept {
    // One that is not in use has no region.
    if (block.region == nullptr || block.state != Block::State::pending) return;
    try {
        drop_complete(block.dependencies);
        const Home& home = home_of(block.dependencies);
        absorb_neighbours(block, [&](Block& neighbour) {
            return neighbour.state == Block::State::pending && may_absorb(home, neighbour);
        });
    } catch (const std::bad_alloc&) {
        // The next search tries again.
    }
}

/// A block in a home whose work is done.
void BlockHeap::move_to_settled(Block& block) {
    unfile(block);
    block.dependencies.clear();
    file(block);
}

/// Of a stream's blocks the oldest, whose work is done; whether there were any.
bool BlockHeap::settle(Home& home, std::uint64_t asking_stream_id) {
    bool any = false;
    for (; !home.by_age.empty(); any = true) {
        Dependencies left = home.by_age.front().dependencies;
        if (!order_.settle(left, asking_stream_id)) break;
        move_to_settled(home.by_age.front());
    }
    return any;
}

void BlockHeap::settle(std::uint64_t asking_stream_id) {
    file_pending();
    for (auto entry = streams_.begin(); entry != streams_.end();) {
        Home& home = *entry->second;
        settle(home, asking_stream_id);
        if (home.by_age.empty() && streams_.size() > idle_homes) {
            last_home_ = nullptr;
            entry = streams_.erase(entry);
        } else {
            ++entry;
        }
    }
    unsigned queries = 0;
    for (auto next = mixed_->by_age.begin(); next != mixed_->by_age.end() && queries < mixed_queries;) {
        Block& block = *next++;
        Dependencies left = block.dependencies;
        if (order_.settle(left, asking_stream_id))
            move_to_settled(block);
        else
            ++queries;
    }
}

Dependencies BlockHeap::pending() const {
    Dependencies united;
    // Blocks that were freed together have one ticket.
    const Ticket* last = nullptr;
    const auto collect = [&](const AgeList& list) {
        for (const Block& block : list) {
            if (block.dependencies.size() == 1 &&
                std::exchange(last, block.dependencies.front().get()) == block.dependencies.front().get())
                continue;
            united.add(block.dependencies);
        }
    };
    collect(pending_);
    for (const auto& [id, home] : streams_)
        collect(home->by_age);
    collect(mixed_->by_age);
    return united;
}

std::size_t BlockHeap::largest_free_bytes() const noexcept {
    std::size_t largest = std::max(settled_->index->largest_bytes(), mixed_->index->largest_bytes());
    for (const auto& [id, home] : streams_)
        largest = std::max(largest, home->index->largest_bytes());
    for (const Block& block : pending_)
        largest = std::max(largest, block.bytes);
    return largest;
}

void BlockHeap::for_each_free(const std::function<void(const Block&)>& visit) const {
    const auto all = [&](const AgeList& list) {
        for (const Block& block : list)
            visit(block);
    };
    all(pending_);
    all(settled_->by_age);
    all(mixed_->by_age);
    for (const auto& [id, home] : streams_)
        all(home->by_age);
}

std::string BlockHeap::check(const std::vector<const Region*>& regions) const {
    std::size_t blocks = 0;
    std::size_t bytes = 0;
    std::size_t pending = 0;
    for (const Region* region : regions) {
        const Block* previous = nullptr;
        for (const Block* block = region->first; block != nullptr; previous = block, block = block->after) {
            if (block->before != previous) return "a block's neighbour before it is wrong";
            if (previous != nullptr && previous->end() != block->ptr)
                return "blocks of a region overlap or leave a gap";
            if (block->region != region) return "a block names another region";
            if ((block->state == Block::State::free) != (block->home != nullptr))
                return "a block's state and home disagree";
            if (block->state != Block::State::free && block->state != Block::State::pending) continue;
            ++blocks;
            bytes += block->bytes;
            if (block->state == Block::State::pending) {
                ++pending;
                continue;
            }
            if (previous != nullptr && previous->home == block->home) return "neighbours of one home are not merged";
            if (home_if_made(block->dependencies) != block->home) return "a block's dependencies and home disagree";
        }
    }
    if (blocks != free_blocks_ || bytes != free_bytes_) return "the counts of free blocks or bytes are wrong";
    if (pending != pending_.size()) return "the list of pending blocks is wrong";
    for (const FreeBlockIndex* index : {settled_->index.get(), mixed_->index.get()})
        if (std::string found = index->check(); !found.empty()) return found;
    for (const auto& [id, home] : streams_)
        if (std::string found = home->index->check(); !found.empty()) return found;
    return {};
}

} // namespace cuda_zstd::detail
