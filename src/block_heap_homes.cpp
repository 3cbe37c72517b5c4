// SPDX-License-Identifier: MIT
// How free blocks change their homes: by completed work, by a wait, by merging; and what is said of them all.
#include "cuda_zstd/host/block_heap.hpp"

#include <algorithm>

namespace cuda_zstd::detail {
namespace {

/// Blocks of several streams that are asked about in one settle.
constexpr unsigned mixed_queries = 8;
/// Homes of streams that are kept although empty.
constexpr std::size_t idle_homes = 64;

} // namespace

void BlockHeap::settle() {
    const auto move = [&](Block& block) {
        unlist(block);
        block.dependencies.clear();
        place(block);
    };
    for (auto entry = streams_.begin(); entry != streams_.end();) {
        Home& home = *entry->second;
        while (!home.by_age.empty()) {
            Dependencies left = home.by_age.front().dependencies;
            if (!order_.settle(left)) break;
            move(home.by_age.front());
        }
        entry = home.by_age.empty() && streams_.size() > idle_homes ? streams_.erase(entry) : std::next(entry);
    }
    unsigned queries = 0;
    for (auto next = mixed_->by_age.begin(); next != mixed_->by_age.end() && queries < mixed_queries;) {
        Block& block = *next++;
        Dependencies left = block.dependencies;
        if (order_.settle(left))
            move(block);
        else
            ++queries;
    }
}

Dependencies BlockHeap::pending() const {
    Dependencies united;
    const auto collect = [&](const Home& home) {
        for (const Block& block : home.by_age)
            united.add(block.dependencies);
    };
    for (const auto& [id, home] : streams_)
        collect(*home);
    collect(*mixed_);
    return united;
}

void BlockHeap::join_with_settled(Home& own) {
    std::vector<Block*> blocks;
    for (Block& block : own.by_age)
        blocks.push_back(&block);
    for (Block* block : blocks) {
        if (block->home != &own) continue; // absorbed by one before it
        unlist(*block);
        absorb_neighbours(*block, [&](const Block& n) { return n.home == &own || n.home == settled_.get(); });
        list(*block, own);
    }
}

void BlockHeap::join_all() {
    std::vector<Block*> blocks;
    const auto collect = [&](const Home& home) {
        for (const Block& block : home.by_age)
            blocks.push_back(const_cast<Block*>(&block));
    };
    collect(*settled_);
    collect(*mixed_);
    for (const auto& [id, home] : streams_)
        collect(*home);
    for (Block* block : blocks) {
        if (block->home == nullptr) continue; // absorbed by one before it
        unlist(*block);
        absorb_neighbours(*block, [](const Block&) { return true; });
        list(*block, home_of(block->dependencies));
    }
}

std::size_t BlockHeap::largest_free_bytes() const noexcept {
    std::size_t largest = std::max(settled_->index->largest_bytes(), mixed_->index->largest_bytes());
    for (const auto& [id, home] : streams_)
        largest = std::max(largest, home->index->largest_bytes());
    return largest;
}

void BlockHeap::for_each_free(const std::function<void(const Block&)>& visit) const {
    const auto all = [&](const Home& home) {
        for (const Block& block : home.by_age)
            visit(block);
    };
    all(*settled_);
    all(*mixed_);
    for (const auto& [id, home] : streams_)
        all(*home);
}

std::string BlockHeap::check(const std::vector<const Region*>& regions) const {
    std::size_t blocks = 0;
    std::size_t bytes = 0;
    for (const Region* region : regions) {
        const Block* previous = nullptr;
        for (const Block* block = region->first; block != nullptr; block = block->after) {
            if (block->before != previous) return "a block's neighbour before it is wrong";
            if (previous != nullptr && previous->end() != block->ptr)
                return "blocks of a region overlap or leave a gap";
            if (block->region != region) return "a block names another region";
            if ((block->state == Block::State::free) != (block->home != nullptr))
                return "a block's state and home disagree";
            if (block->state == Block::State::free) {
                ++blocks;
                bytes += block->bytes;
                if (previous != nullptr && previous->home == block->home)
                    return "neighbours of one home are not merged";
                const auto stream_id = block->dependencies.sole_stream();
                const Home* home = block->dependencies.empty() ? settled_.get()
                                   : stream_id                 ? streams_.at(*stream_id).get()
                                                               : mixed_.get();
                if (home != block->home) return "a block's dependencies and home disagree";
            }
            previous = block;
        }
    }
    if (blocks != free_blocks_ || bytes != free_bytes_) return "the counts of free blocks or bytes are wrong";
    for (const FreeBlockIndex* index : {settled_->index.get(), mixed_->index.get()})
        if (std::string found = index->check(); !found.empty()) return found;
    for (const auto& [id, home] : streams_)
        if (std::string found = home->index->check(); !found.empty()) return found;
    return {};
}

} // namespace cuda_zstd::detail
