// SPDX-License-Identifier: MIT
// Blocks made of neighbours that wait for different work. What serves the request is joined and nothing else: a block
// that was joined waits for all that its parts did.
#include "cuda_zstd/host/block_heap.hpp"

namespace cuda_zstd::detail {

/// Every block that is in a home.
template <class Visit>
void BlockHeap::for_each_filed(const Visit& visit) const {
    const auto all = [&](const Home& home) {
        for (const Block& block : home.by_age)
            visit(const_cast<Block&>(block));
    };
    all(*settled_);
    all(*mixed_);
    for (const auto& [id, home] : streams_)
        all(*home);
}

Block* BlockHeap::smallest_recorded(std::size_t bytes, std::size_t alignment) const {
    Block* smallest = nullptr;
    for_each_filed([&](Block& block) {
        if (smallest != nullptr && block.bytes >= smallest->bytes) return;
        if (fits(block, bytes, alignment) && !block.dependencies.has_open()) smallest = &block;
    });
    return smallest;
}

/// The shortest piece of a run, from its first block on, that holds the request, if that is shorter than `best`.
template <class Joins>
void BlockHeap::find_run(Block& start, std::size_t bytes, std::size_t alignment, const Joins& joins, Run& best) {
    const auto holds = [&](const Block& first, const Block& last) {
        return aligned_up(first.ptr, alignment) + bytes <= last.end();
    };
    Block* first = &start;
    for (Block* last = &start; last != nullptr && joins(*last); last = last->after) {
        if (!holds(*first, *last)) continue;
        while (first != last && holds(*first->after, *last))
            first = first->after;
        const auto run_bytes = static_cast<std::size_t>(last->end() - first->ptr);
        if (best.first == nullptr || run_bytes < best.bytes) best = {first, last, run_bytes};
    }
}

/// Makes one block of a run; null where there is none.
Block* BlockHeap::join(const Run& run) {
    if (run.first == nullptr) return nullptr;
    Block& block = *run.first;
    const std::byte* const end = run.last->end();
    unfile(block);
    {
        TicketReleases releases;
        while (block.end() != end)
            absorb_after(block, releases);
    }
    file(block);
    return &block;
}

/// A block made of some of a stream's own and the settled ones.
Block* BlockHeap::join_with_settled(Home& own, std::size_t bytes, std::size_t alignment) {
    const auto joins = [&](const Block& block) { return block.home == &own || block.home == settled_.get(); };
    Run best;
    for (Block& block : own.by_age) {
        // Neighbours of one home are one block: before its first own one, a run has at most one that is settled.
        Block* start = &block;
        if (block.before != nullptr && joins(*block.before)) start = block.before;
        if (start != &block && start->before != nullptr && joins(*start->before)) continue;
        find_run(*start, bytes, alignment, joins, best);
    }
    return join(best);
}

/// A block made of free ones of any home.
Block* BlockHeap::join_any(std::size_t bytes, std::size_t alignment, Within within) {
    const auto joins = [&](const Block& block) {
        return block.home != nullptr && (within == Within::all || !block.dependencies.has_open());
    };
    Run best;
    for_each_filed([&](Block& block) {
        if (block.before == nullptr || !joins(*block.before)) find_run(block, bytes, alignment, joins, best);
    });
    return join(best);
}

} // namespace cuda_zstd::detail
