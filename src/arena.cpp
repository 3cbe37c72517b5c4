// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/arena.hpp"

#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t pool_unit_bytes = std::size_t{2} << 20;
constexpr std::size_t largest_chunk_bytes = std::size_t{32} << 20;
constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

/// The largest power of two up to 32 MiB that divides the limit, so that all of it can be mapped.
std::size_t chunk_bytes_for(std::size_t limit_bytes) noexcept {
    std::size_t chunk_bytes = largest_chunk_bytes;
    if (limit_bytes != no_limit)
        while (chunk_bytes > pool_unit_bytes && limit_bytes % chunk_bytes != 0)
            chunk_bytes /= 2;
    return chunk_bytes;
}

} // namespace

ArenaPool::ArenaPool(const PoolOptions& options, StreamOrder& order, std::shared_ptr<ArenaSource> source)
    : options_(options), source_(std::move(source)),
      limit_bytes_(options.max_bytes == 0 ? no_limit : options.max_bytes / pool_unit_bytes * pool_unit_bytes),
      chunk_bytes_(chunk_bytes_for(limit_bytes_)), heap_(options.strategy, order) {
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
    if (bytes > limit_bytes_) return {};
    const std::lock_guard lock(mutex_);
    Taken taken = heap_.take_ready(bytes, alignment, stream_id);
    if (!taken && may_wait(effort)) taken = heap_.take_any(bytes, alignment);
    if (!taken && may_grow(effort) && grow(bytes, alignment)) taken = heap_.take_ready(bytes, alignment, stream_id);
    if (taken) ++static_cast<Arena*>(taken.block->region)->live_blocks;
    return taken;
}

void ArenaPool::give(Block& block, Dependencies dependencies) {
    const std::lock_guard lock(mutex_);
    --static_cast<Arena*>(block.region)->live_blocks;
    heap_.give(block, std::move(dependencies));
}

std::size_t ArenaPool::wanted_growth_bytes(std::size_t needed_bytes) const {
    std::size_t wanted_bytes = needed_bytes;
    switch (options_.growth) {
    case Growth::exact:
        break;
    case Growth::fixed_step:
        wanted_bytes = std::max(needed_bytes, options_.growth_step_bytes);
        break;
    case Growth::geometric: {
        const double more_bytes = static_cast<double>(capacity_bytes_) * (options_.growth_factor - 1.0);
        wanted_bytes = std::max(needed_bytes, static_cast<std::size_t>(more_bytes));
        break;
    }
    }
    return wanted_bytes;
}

/// Maps at least so much that a block of `bytes` fits; false when limit or source forbid.
bool ArenaPool::grow(std::size_t bytes, std::size_t alignment) {
    static const TraceName name("grow", TraceCategory::grow);
    const TraceRange range(name, bytes);
    heap_.settle();
    if (source_->grows())
        for (const auto& arena : arenas_)
            if (grow_in(*arena, bytes, alignment)) return true;
    Arena* added = add_arena(source_->grows() ? bytes : wanted_growth_bytes(bytes));
    if (added == nullptr && !source_->grows()) added = add_arena(bytes);
    if (added == nullptr) return false;
    if (grow_in(*added, bytes, alignment)) return true;
    release_empty_arenas();
    return false;
}

/// Maps from the start of the first unmapped stretch that, with the settled block before it, holds the block.
bool ArenaPool::grow_in(Arena& arena, std::size_t bytes, std::size_t alignment) {
    for (Block* gap = arena.first; gap != nullptr; gap = gap->after) {
        if (gap->state != Block::State::unmapped) continue;
        const Block* before = gap->before;
        const std::size_t usable_bytes =
            before != nullptr && before->state == Block::State::free && before->dependencies.empty() ? before->bytes
                                                                                                     : 0;
        const auto start = reinterpret_cast<std::uintptr_t>(gap->ptr) - usable_bytes;
        const std::size_t padded_bytes = round_up(start, alignment) - start + bytes;
        const std::size_t needed_bytes =
            round_up(padded_bytes - std::min(usable_bytes, padded_bytes), arena.chunk_bytes);
        if (needed_bytes == 0 || gap->bytes < needed_bytes || needed_bytes > limit_bytes_ - capacity_bytes_) continue;
        const std::size_t room_bytes =
            std::min(gap->bytes, (limit_bytes_ - capacity_bytes_) / arena.chunk_bytes * arena.chunk_bytes);
        const std::size_t asked_bytes =
            std::clamp(round_up(wanted_growth_bytes(needed_bytes), arena.chunk_bytes), needed_bytes, room_bytes);
        const std::size_t mapped_bytes = map_chunks(arena, gap->ptr, asked_bytes, needed_bytes);
        if (mapped_bytes == 0) return false;
        make_free(arena, *gap, mapped_bytes);
        return true;
    }
    return false;
}

/// Maps chunk by chunk. Where the source fails, keeps what there is if it is what is needed, else nothing.
std::size_t ArenaPool::map_chunks(Arena& arena, std::byte* from, std::size_t bytes, std::size_t needed_bytes) {
    const auto offset = static_cast<std::size_t>(from - arena.range.base);
    std::size_t mapped_bytes = 0;
    const auto undo = [&] {
        for (; mapped_bytes != 0; mapped_bytes -= arena.chunk_bytes)
            source_->unmap(arena.range, offset + mapped_bytes - arena.chunk_bytes, arena.chunk_bytes);
    };
    try {
        for (; mapped_bytes < bytes; mapped_bytes += arena.chunk_bytes)
            source_->map(arena.range, offset + mapped_bytes, arena.chunk_bytes);
    } catch (const out_of_memory& error) {
        last_failure_ = error.what();
        if (mapped_bytes < needed_bytes) undo();
    } catch (...) {
        undo();
        throw;
    }
    return mapped_bytes;
}

void ArenaPool::make_free(Arena& arena, Block& unmapped, std::size_t bytes) {
    if (unmapped.bytes != bytes) {
        Block& rest = heap_.make(arena, unmapped.ptr + bytes, unmapped.bytes - bytes);
        rest.state = Block::State::unmapped;
        rest.before = &unmapped;
        rest.after = unmapped.after;
        if (rest.after != nullptr) rest.after->before = &rest;
        unmapped.after = &rest;
        unmapped.bytes = bytes;
    }
    capacity_bytes_ += bytes;
    peak_capacity_bytes_ = std::max(peak_capacity_bytes_, capacity_bytes_);
    ++growths_;
    heap_.give(unmapped, {});
}

/// A range that nothing is mapped in yet; null when there is none to be had.
Arena* ArenaPool::add_arena(std::size_t bytes) {
    auto arena = std::make_unique<Arena>();
    arena->pool = this;
    arena->chunk_bytes = source_->grows() ? chunk_bytes_ : round_up(bytes, pool_unit_bytes);
    std::size_t least_bytes = round_up(bytes, arena->chunk_bytes);
    if (capacity_bytes_ > limit_bytes_ || least_bytes > limit_bytes_ - capacity_bytes_) return nullptr;
    std::size_t range_bytes = least_bytes;
    if (source_->grows()) {
        const std::size_t most_bytes = limit_bytes_ != no_limit ? limit_bytes_ : source_->total_bytes();
        range_bytes = std::max(least_bytes, round_up(most_bytes, arena->chunk_bytes));
    }
    // Addresses may be scarce (a limit on them, a sanitizer): less will do.
    for (;; range_bytes = std::max(least_bytes, range_bytes / 2 / arena->chunk_bytes * arena->chunk_bytes)) {
        try {
            arena->range = source_->reserve(range_bytes);
            break;
        } catch (const out_of_memory& error) {
            last_failure_ = error.what();
            if (range_bytes == least_bytes) return nullptr;
        }
    }
    Block& all = heap_.make(*arena, arena->range.base, arena->range.bytes);
    all.state = Block::State::unmapped;
    arena->first = &all;
    arenas_.push_back(std::move(arena));
    return arenas_.back().get();
}

void ArenaPool::reserve(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    heap_.settle();
    while (heap_.free_bytes() < bytes) {
        const std::size_t missing_bytes = bytes - heap_.free_bytes();
        // In steps of what one stretch of addresses holds; the free block before a gap does not count here.
        bool grown = false;
        if (missing_bytes <= limit_bytes_ - capacity_bytes_) {
            if (source_->grows())
                for (const auto& arena : arenas_) {
                    for (Block* gap = arena->first; gap != nullptr && !grown; gap = gap->after) {
                        if (gap->state != Block::State::unmapped) continue;
                        const std::size_t asked_bytes =
                            std::min(gap->bytes, round_up(missing_bytes, arena->chunk_bytes));
                        if (asked_bytes > limit_bytes_ - capacity_bytes_) continue;
                        const std::size_t mapped_bytes = map_chunks(*arena, gap->ptr, asked_bytes, asked_bytes);
                        if (mapped_bytes == 0) break;
                        make_free(*arena, *gap, mapped_bytes);
                        grown = true;
                    }
                    if (grown) break;
                }
            if (!grown)
                if (Arena* added = add_arena(missing_bytes)) grown = grow_in(*added, missing_bytes, granule_bytes);
        }
        if (!grown) {
            release_empty_arenas();
            throw out_of_memory("reserve(" + std::to_string(bytes) + ") failed: " + std::to_string(heap_.free_bytes()) +
                                " bytes are free, " + std::to_string(capacity_bytes_) + " mapped" +
                                (limit_bytes_ == no_limit ? std::string(", without a limit")
                                                          : ", the limit is " + std::to_string(limit_bytes_)) +
                                (last_failure_.empty() ? std::string() : "; the source said: " + last_failure_));
        }
    }
}

void ArenaPool::wait_on_host() {
    const std::lock_guard lock(mutex_);
    heap_.wait_on_host();
}

void ArenaPool::trim(std::size_t keep_bytes) {
    const std::lock_guard lock(mutex_);
    heap_.settle();
    for (Block* block : heap_.settled_by_age()) {
        if (capacity_bytes_ <= keep_bytes) break;
        unmap(*block, keep_bytes);
    }
    release_empty_arenas();
}

/// Unmaps whole chunks inside a settled free block.
void ArenaPool::unmap(Block& block, std::size_t keep_bytes) {
    auto& arena = static_cast<Arena&>(*block.region);
    const std::size_t begin = round_up(static_cast<std::size_t>(block.ptr - arena.range.base), arena.chunk_bytes);
    const std::size_t end =
        static_cast<std::size_t>(block.end() - arena.range.base) / arena.chunk_bytes * arena.chunk_bytes;
    if (begin >= end) return;
    const std::size_t surplus_bytes = capacity_bytes_ - keep_bytes;
    const std::size_t bytes = std::min(end - begin, surplus_bytes / arena.chunk_bytes * arena.chunk_bytes);
    if (bytes == 0) return;
    Block* gap = heap_.carve(block, arena.range.base + end - bytes, bytes).block;
    gap->state = Block::State::unmapped;
    for (std::size_t offset = end - bytes; offset != end; offset += arena.chunk_bytes)
        source_->unmap(arena.range, offset, arena.chunk_bytes);
    capacity_bytes_ -= bytes;
    ++returns_;
    if (gap->after != nullptr && gap->after->state == Block::State::unmapped) heap_.merge_unlisted(*gap, *gap->after);
    if (gap->before != nullptr && gap->before->state == Block::State::unmapped)
        heap_.merge_unlisted(*gap->before, *gap);
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
    const std::lock_guard lock(mutex_);
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
        piece.arena->live_blocks = 0;
        block.state = Block::State::unmapped;
        previous = &block;
        if (!piece.unmapped) heap_.give(block, {});
    }
}

ArenaFigures ArenaPool::figures() const {
    const std::lock_guard lock(mutex_);
    return {{heap_.free_blocks(), heap_.free_bytes(), heap_.largest_free_bytes()},
            capacity_bytes_,
            peak_capacity_bytes_,
            growths_,
            returns_};
}

void ArenaPool::for_each_free(const std::function<void(const Block&)>& visit) const {
    const std::lock_guard lock(mutex_);
    heap_.for_each_free(visit);
}

std::string ArenaPool::last_failure() const {
    const std::lock_guard lock(mutex_);
    return last_failure_;
}

std::string ArenaPool::check() const {
    const std::lock_guard lock(mutex_);
    std::vector<const Region*> regions;
    std::size_t mapped_bytes = 0;
    for (const auto& arena : arenas_) {
        regions.push_back(arena.get());
        for (const Block* block = arena->first; block != nullptr; block = block->after)
            if (block->state != Block::State::unmapped) mapped_bytes += block->bytes;
    }
    if (mapped_bytes != capacity_bytes_) return "the arenas' mapped bytes and the capacity disagree";
    if (capacity_bytes_ > limit_bytes_) return "more is mapped than the limit allows";
    return heap_.check(regions);
}

} // namespace cuda_zstd::detail
