// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/block_heap.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace cuda_zstd::detail {
namespace {

std::byte* aligned(std::byte* ptr, std::size_t alignment) noexcept {
    return reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::uintptr_t>(ptr), alignment));
}

bool fits(const Block& block, std::size_t bytes, std::size_t alignment) noexcept {
    return aligned(block.ptr, alignment) + bytes <= block.end();
}

/// The strategy's choice; for an alignment above the granule also one that only just fits, found by looking at all.
Block* find_in(const Home& home, std::size_t bytes, std::size_t alignment) {
    Block* found = home.index->find(bytes);
    if (found == nullptr || fits(*found, bytes, alignment)) return found;
    if ((found = home.index->find(bytes + alignment - granule_bytes)) != nullptr) return found;
    for (const Block& block : home.by_age)
        if (fits(block, bytes, alignment)) return const_cast<Block*>(&block);
    return nullptr;
}

} // namespace

std::uint64_t now_ns() noexcept {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
}

BlockHeap::BlockHeap(Strategy strategy, StreamOrder& order)
    : strategy_(strategy), order_(order), settled_(std::make_unique<Home>(strategy)),
      mixed_(std::make_unique<Home>(strategy)) {}

Block& BlockHeap::make(Region& region, std::byte* ptr, std::size_t bytes) {
    Block* block = nullptr;
    if (spare_.empty()) {
        block = &blocks_.emplace_back();
    } else {
        block = spare_.back();
        spare_.pop_back();
    }
    block->ptr = ptr;
    block->bytes = bytes;
    block->before = block->after = nullptr;
    block->region = &region;
    block->state = Block::State::live;
    block->timestamp = now_ns();
    return *block;
}

void BlockHeap::dispose(Block& block) {
    block.dependencies.clear();
    block.home = nullptr;
    block.region = nullptr;
    spare_.push_back(&block);
}

Home& BlockHeap::home_of(const Dependencies& dependencies) {
    if (dependencies.empty()) return *settled_;
    const auto stream_id = dependencies.sole_stream();
    if (!stream_id) return *mixed_;
    auto& home = streams_[*stream_id];
    if (home == nullptr) home = std::make_unique<Home>(strategy_);
    return *home;
}

Home* BlockHeap::own_home(std::uint64_t stream_id) {
    const auto found = streams_.find(stream_id);
    return found == streams_.end() ? nullptr : found->second.get();
}

void BlockHeap::list(Block& block, Home& home) {
    block.home = &home;
    home.index->insert(block);
    home.by_age.push_back(block);
    ++free_blocks_;
    free_bytes_ += block.bytes;
}

void BlockHeap::unlist(Block& block) {
    block.home->index->erase(block);
    block.home->by_age.erase(block.home->by_age.iterator_to(block));
    block.home = nullptr;
    --free_blocks_;
    free_bytes_ -= block.bytes;
}

Block& BlockHeap::merge_unlisted(Block& low, Block& high) {
    low.bytes += high.bytes;
    low.after = high.after;
    if (high.after != nullptr) high.after->before = &low;
    low.dependencies.add(high.dependencies);
    low.timestamp = std::max(low.timestamp, high.timestamp);
    dispose(high);
    return low;
}

/// `block` is in no home; it keeps its identity, so a lower neighbour's place in the region becomes its own.
void BlockHeap::absorb_neighbours(Block& block, const std::function<bool(const Block&)>& may_absorb) {
    while (block.after != nullptr && block.after->state == Block::State::free && may_absorb(*block.after)) {
        unlist(*block.after);
        merge_unlisted(block, *block.after);
    }
    while (block.before != nullptr && block.before->state == Block::State::free && may_absorb(*block.before)) {
        Block& low = *block.before;
        unlist(low);
        block.ptr = low.ptr;
        block.bytes += low.bytes;
        block.before = low.before;
        if (low.before != nullptr)
            low.before->after = &block;
        else
            block.region->first = &block;
        block.dependencies.add(low.dependencies);
        block.timestamp = std::max(block.timestamp, low.timestamp);
        dispose(low);
    }
}

void BlockHeap::place(Block& block) {
    Home& home = home_of(block.dependencies);
    absorb_neighbours(block, [&](const Block& neighbour) { return neighbour.home == &home; });
    list(block, home);
}

void BlockHeap::give(Block& block, Dependencies dependencies) {
    block.state = Block::State::free;
    block.timestamp = now_ns();
    block.dependencies = std::move(dependencies);
    place(block);
}

Taken BlockHeap::carve(Block& block, std::byte* from, std::size_t bytes) {
    Home& home = *block.home;
    unlist(block);
    Block* middle = &block;
    if (from != block.ptr) {
        middle = &make(*block.region, from, block.bytes - static_cast<std::size_t>(from - block.ptr));
        middle->dependencies = block.dependencies;
        middle->timestamp = block.timestamp;
        middle->before = &block;
        middle->after = block.after;
        if (block.after != nullptr) block.after->before = middle;
        block.after = middle;
        block.bytes = static_cast<std::size_t>(from - block.ptr);
        list(block, home);
    }
    if (middle->bytes != bytes) {
        Block& rest = make(*block.region, from + bytes, middle->bytes - bytes);
        rest.state = Block::State::free;
        rest.dependencies = middle->dependencies;
        rest.timestamp = middle->timestamp;
        rest.before = middle;
        rest.after = middle->after;
        if (middle->after != nullptr) middle->after->before = &rest;
        middle->after = &rest;
        middle->bytes = bytes;
        list(rest, home);
    }
    middle->state = Block::State::live;
    middle->timestamp = now_ns();
    Taken taken{middle, std::move(middle->dependencies), Origin::own};
    middle->dependencies.clear();
    return taken;
}

Taken BlockHeap::cut(Block& block, std::size_t bytes, std::size_t alignment) {
    return carve(block, aligned(block.ptr, alignment), bytes);
}

Block* BlockHeap::choose(Home* own, std::size_t bytes, std::size_t alignment) const {
    Block* of_own = own == nullptr ? nullptr : find_in(*own, bytes, alignment);
    Block* of_settled = find_in(*settled_, bytes, alignment);
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

Taken BlockHeap::take_ready(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id) {
    Block* found = choose(own_home(stream_id), bytes, alignment);
    if (found == nullptr && free_bytes_ >= bytes) {
        settle();
        found = choose(own_home(stream_id), bytes, alignment);
        if (Home* own = own_home(stream_id); found == nullptr && own != nullptr) {
            join_with_settled(*own);
            found = choose(own, bytes, alignment);
        }
    }
    return found == nullptr ? Taken{} : cut(*found, bytes, alignment);
}

Taken BlockHeap::take_any(std::size_t bytes, std::size_t alignment) {
    if (free_bytes_ < bytes) return {};
    settle();
    const auto best = [&] {
        Block* found = choose(nullptr, bytes, alignment);
        for (const auto& [id, home] : streams_) {
            Block* candidate = find_in(*home, bytes, alignment);
            if (candidate != nullptr && (found == nullptr || candidate->bytes < found->bytes)) found = candidate;
        }
        return found != nullptr ? found : find_in(*mixed_, bytes, alignment);
    };
    Block* found = best();
    if (found == nullptr) {
        join_all();
        found = best();
    }
    return found == nullptr ? Taken{} : cut(*found, bytes, alignment);
}

Dependencies BlockHeap::dissolve(Region& region) {
    Dependencies united;
    for (Block* block = region.first; block != nullptr;) {
        Block* after = block->after;
        unlist(*block);
        united.add(block->dependencies);
        dispose(*block);
        block = after;
    }
    region.first = nullptr;
    return united;
}

void BlockHeap::clear() {
    settled_ = std::make_unique<Home>(strategy_);
    mixed_ = std::make_unique<Home>(strategy_);
    streams_.clear();
    spare_.clear();
    blocks_.clear();
    free_blocks_ = 0;
    free_bytes_ = 0;
}

std::vector<Block*> BlockHeap::settled_by_age() const {
    std::vector<Block*> blocks;
    for (Block& block : settled_->by_age)
        blocks.push_back(&block);
    std::stable_sort(blocks.begin(), blocks.end(),
                     [](const Block* a, const Block* b) { return a->timestamp < b->timestamp; });
    return blocks;
}

} // namespace cuda_zstd::detail
