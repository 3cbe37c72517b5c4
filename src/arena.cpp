// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/arena.hpp"

#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t largest_chunk_bytes = std::size_t{32} << 20;
constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

/// The largest power of two up to 32 MiB that divides the limit, so that all of it can be mapped. Where as little as
/// possible is to be mapped, the smallest.
std::size_t chunk_bytes_for(std::size_t limit_bytes, Growth growth) noexcept {
    std::size_t chunk_bytes = growth == Growth::exact ? pool_unit_bytes : largest_chunk_bytes;
    if (limit_bytes != no_limit)
        while (chunk_bytes > pool_unit_bytes && limit_bytes % chunk_bytes != 0)
            chunk_bytes /= 2;
    return chunk_bytes;
}

} // namespace

ArenaPool::ArenaPool(const PoolOptions& options, StreamOrder& order, std::shared_ptr<ArenaSource> source)
    : options_(options), order_(order), source_(std::move(source)),
      limit_bytes_(options.max_bytes == 0 ? no_limit : options.max_bytes / pool_unit_bytes * pool_unit_bytes),
      chunk_bytes_(chunk_bytes_for(limit_bytes_, options.growth)),
      most_bytes_(std::min(limit_bytes_, source_->total_bytes() / chunk_bytes_ * chunk_bytes_)),
      heap_(options.strategy, order,
            options.growth == Growth::exact ? Settling::where_none_fits_exactly : Settling::after_a_miss) {
    if (options_.initial_bytes == 0) return;
    try {
        reserve(std::min(options_.initial_bytes, limit_bytes_));
    } catch (...) {
        trim(0);
        for (const auto& arena : arenas_)
            source_->release(arena->range);
        throw;
    }
}

ArenaPool::~ArenaPool() {
    // The driver is gone, and the memory with it.
    if (order_.backend().is_retired()) return;
    for (const auto& arena : arenas_) {
        for (const Block* block = arena->first; block != nullptr; block = block->after) {
            // Blocks may begin inside a chunk; a chunk is unmapped by the mapped block that holds its first byte.
            if (block->state == Block::State::unmapped) continue;
            std::size_t offset = round_up(static_cast<std::size_t>(block->ptr - arena->range.base), arena->chunk_bytes);
            for (; arena->range.base + offset < block->end(); offset += arena->chunk_bytes)
                source_->unmap(arena->range, offset, arena->chunk_bytes);
        }
        source_->release(arena->range);
    }
}

Taken ArenaPool::take(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id, Effort effort) {
    if (bytes > most_bytes_) return {};
    const Hold hold(*this);
    Taken taken = heap_.take_ready(bytes, alignment, stream_id);
    if (!taken && may_wait(effort))
        taken = heap_.take_any(bytes, alignment, order_.may_close() ? Within::all : Within::recorded);
    if (!taken && may_grow(effort) && grow(bytes, alignment))
        taken = heap_.take_ready(bytes, alignment, stream_id, Search::thorough);
    return taken;
}

void ArenaPool::give(Block& block, Dependencies dependencies) {
    block.dependencies = std::move(dependencies);
    Block* const one = &block;
    if (heap_.post({&one, 1})) merge(block);
}

void ArenaPool::give(std::span<Block* const> blocks, const TicketRef& ticket) noexcept {
    if (heap_.post(blocks, ticket)) merge(*blocks[0]);
}

/// A block that was posted with its neighbours, unless somebody else is at work here.
void ArenaPool::merge(Block& block) noexcept {
    if (!mutex_.try_lock()) return;
    const std::lock_guard lock(mutex_, std::adopt_lock);
    heap_.receive([](const Block&) {});
    heap_.merge_pending(block);
}

void ArenaPool::reserve(std::size_t bytes) {
    const Hold hold(*this);
    heap_.settle();
    while (heap_.free_bytes() < bytes) {
        if (map_more(bytes - heap_.free_bytes())) continue;
        release_empty_arenas();
        throw out_of_memory("reserve(" + std::to_string(bytes) + ") failed: " + std::to_string(heap_.free_bytes()) +
                            " bytes are free, " + std::to_string(capacity_bytes_) + " mapped" +
                            (limit_bytes_ == no_limit ? std::string(", without a limit")
                                                      : ", the limit is " + std::to_string(limit_bytes_)) +
                            (last_failure_.empty() ? std::string() : "; the source's last failure: " + last_failure_));
    }
}

void ArenaPool::wait_on_host() {
    Dependencies pending;
    {
        const Hold hold(*this);
        pending = heap_.pending();
    }
    order_.wait_on_host(pending);
    const Hold hold(*this);
    heap_.settle();
}

void ArenaPool::trim(std::size_t keep_bytes) {
    const Hold hold(*this);
    heap_.settle();
    if (capacity_bytes_ > keep_bytes) unmap_settled(capacity_bytes_ - keep_bytes);
    release_empty_arenas();
}

/// Unmaps up to `bytes` of settled free chunks, least recently used first; how many.
std::size_t ArenaPool::unmap_settled(std::size_t bytes) {
    std::size_t smallest_chunk_bytes = no_limit;
    for (const auto& arena : arenas_)
        smallest_chunk_bytes = std::min(smallest_chunk_bytes, arena->chunk_bytes);
    std::size_t unmapped_bytes = 0;
    // A smaller block holds no whole chunk.
    for (Block* block : heap_.settled_by_age(smallest_chunk_bytes)) {
        if (unmapped_bytes == bytes) break;
        unmapped_bytes += unmap(*block, bytes - unmapped_bytes);
    }
    return unmapped_bytes;
}

/// Unmaps whole chunks inside a settled free block, at most `most_bytes`; how many bytes.
std::size_t ArenaPool::unmap(Block& block, std::size_t most_bytes) {
    auto& arena = static_cast<Arena&>(*block.region);
    const std::size_t begin = round_up(static_cast<std::size_t>(block.ptr - arena.range.base), arena.chunk_bytes);
    const std::size_t end =
        static_cast<std::size_t>(block.end() - arena.range.base) / arena.chunk_bytes * arena.chunk_bytes;
    if (begin >= end) return 0;
    const std::size_t bytes = std::min(end - begin, most_bytes / arena.chunk_bytes * arena.chunk_bytes);
    if (bytes == 0) return 0;
    Block* gap = heap_.carve(block, arena.range.base + end - bytes, bytes).block;
    gap->state = Block::State::unmapped;
    for (std::size_t offset = end - bytes; offset != end; offset += arena.chunk_bytes)
        source_->unmap(arena.range, offset, arena.chunk_bytes);
    capacity_bytes_ -= bytes;
    source_is_short_ = false;
    ++returns_;
    if (gap->after != nullptr && gap->after->state == Block::State::unmapped) heap_.merge_unlisted(*gap, *gap->after);
    if (gap->before != nullptr && gap->before->state == Block::State::unmapped)
        heap_.merge_unlisted(*gap->before, *gap);
    return bytes;
}

/// Keeps one range of a source that grows: its addresses cost nothing.
void ArenaPool::release_empty_arenas() {
    const std::size_t keep = source_->grows() ? 1 : 0;
    std::size_t left = arenas_.size();
    std::erase_if(arenas_, [&](const std::unique_ptr<Arena>& arena) {
        if (left <= keep || arena->first->state != Block::State::unmapped || arena->first->after != nullptr)
            return false;
        source_->release(arena->range);
        heap_.discard(*arena->first);
        --left;
        return true;
    });
}

void ArenaPool::reset() {
    const Hold hold(*this);
    struct Mapped {
        Arena* arena;
        std::byte* ptr;
        std::size_t bytes;
        bool unmapped;
    };
    std::vector<Mapped> pieces;
    for (const auto& arena : arenas_)
        for (const Block* block = arena->first; block != nullptr; block = block->after) {
            const bool unmapped = block->state == Block::State::unmapped;
            if (!pieces.empty() && pieces.back().arena == arena.get() && pieces.back().unmapped == unmapped)
                pieces.back().bytes += block->bytes;
            else
                pieces.push_back({arena.get(), block->ptr, block->bytes, unmapped});
        }
    heap_.clear();
    Block* previous = nullptr;
    for (const Mapped& piece : pieces) {
        Block& block = heap_.make(*piece.arena, piece.ptr, piece.bytes);
        block.before = previous != nullptr && previous->region == piece.arena ? previous : nullptr;
        (block.before != nullptr ? block.before->after : piece.arena->first) = &block;
        block.state = Block::State::unmapped;
        previous = &block;
        if (!piece.unmapped) heap_.give(block, {});
    }
}

ArenaFigures ArenaPool::figures() const {
    const Hold hold(*this);
    heap_.file_pending();
    return {{heap_.free_blocks(), heap_.free_bytes(), heap_.largest_free_bytes()},
            capacity_bytes_ + lent_bytes_,
            peak_capacity_bytes_,
            growths_,
            returns_};
}

void ArenaPool::for_each_free(const std::function<void(const Block&)>& visit) const {
    const Hold hold(*this);
    heap_.file_pending();
    heap_.for_each_free(visit);
}

void ArenaPool::for_each_arena(const std::function<void(const AddressRange&, const Block* first)>& visit) const {
    const Hold hold(*this);
    for (const auto& arena : arenas_)
        visit(arena->range, arena->first);
}

std::string ArenaPool::last_failure() const {
    const Hold hold(*this);
    return last_failure_;
}

std::string ArenaPool::check() const {
    const Hold hold(*this);
    std::vector<const Region*> regions;
    std::size_t mapped_bytes = 0;
    for (const auto& arena : arenas_) {
        regions.push_back(arena.get());
        for (const Block* block = arena->first; block != nullptr; block = block->after)
            if (block->state != Block::State::unmapped) mapped_bytes += block->bytes;
    }
    if (mapped_bytes != capacity_bytes_) return "the arenas' mapped bytes and the capacity disagree";
    if (capacity_bytes_ + lent_bytes_ > most_bytes_) return "more is mapped than the limit allows";
    if (std::string found = heap_.check(regions); !found.empty()) return found;
    heap_.file_pending();
    return heap_.check(regions);
}

} // namespace cuda_zstd::detail
