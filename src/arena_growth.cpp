// SPDX-License-Identifier: MIT
// How the arenas get more memory.
#include "cuda_zstd/host/arena.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"

#include <algorithm>
#include <utility>

namespace cuda_zstd::detail {

std::size_t ArenaPool::wanted_growth_bytes(std::size_t needed_bytes) const {
    std::size_t wanted_bytes = needed_bytes;
    if (source_is_short_) return wanted_bytes;
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

bool ArenaPool::lend(std::size_t bytes) {
    const Hold hold(*this);
    if (bytes > room_bytes() && source_->grows()) {
        heap_.settle();
        unmap_settled(round_up(bytes - room_bytes(), chunk_bytes_));
    }
    if (bytes > room_bytes()) return false;
    lent_bytes_ += bytes;
    peak_capacity_bytes_ = std::max(peak_capacity_bytes_, capacity_bytes_ + lent_bytes_);
    return true;
}

void ArenaPool::repay(std::size_t bytes) {
    const Hold hold(*this);
    lent_bytes_ -= bytes;
}

/// Gets a free block of at least `bytes`, by mapping more or by exchanging chunks; false when limit or source forbid.
bool ArenaPool::grow(std::size_t bytes, std::size_t alignment) {
    static const TraceName name("grow", TraceCategory::grow);
    const TraceRange range(name, bytes);
    heap_.settle();
    const std::size_t needed_bytes = round_up(bytes + alignment - granule_bytes, chunk_bytes_);
    const bool exchanges = source_->grows();
    const bool exact = options_.growth == Growth::exact;
    if (exchanges && exact) unmap_settled(needed_bytes);
    if (map_for(bytes, alignment)) return true;
    return exchanges && !exact && unmap_settled(needed_bytes) != 0 && map_for(bytes, alignment);
}

/// Maps at least so much that a block of `bytes` fits; false when limit or source forbid.
bool ArenaPool::map_for(std::size_t bytes, std::size_t alignment) {
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

/// Maps from the start of an unmapped stretch that, with the settled block before it, holds the block: the first one;
/// or, where as little as possible is to be mapped, the one that needs the least, of those the one that leaves the
/// least.
bool ArenaPool::grow_in(Arena& arena, std::size_t bytes, std::size_t alignment) {
    Block* chosen = nullptr;
    std::size_t chosen_bytes = 0;
    std::size_t chosen_rest_bytes = 0;
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
        if (needed_bytes == 0 || gap->bytes < needed_bytes || needed_bytes > room_bytes()) continue;
        const std::size_t rest_bytes = usable_bytes + needed_bytes - padded_bytes;
        if (chosen != nullptr &&
            (needed_bytes > chosen_bytes || (needed_bytes == chosen_bytes && rest_bytes >= chosen_rest_bytes)))
            continue;
        chosen = gap;
        chosen_bytes = needed_bytes;
        chosen_rest_bytes = rest_bytes;
        if (options_.growth != Growth::exact) break;
    }
    if (chosen == nullptr) return false;
    const std::size_t allowed_bytes = std::min(chosen->bytes, room_bytes() / arena.chunk_bytes * arena.chunk_bytes);
    const std::size_t asked_bytes =
        std::clamp(round_up(wanted_growth_bytes(chosen_bytes), arena.chunk_bytes), chosen_bytes, allowed_bytes);
    const std::size_t mapped_bytes = map_chunks(arena, chosen->ptr, asked_bytes, chosen_bytes);
    if (mapped_bytes == 0) return false;
    make_free(arena, *chosen, mapped_bytes);
    return true;
}

void ArenaPool::note_failure(const out_of_memory& error) {
    last_failure_ = error.what();
    source_failures_.fetch_add(1, std::memory_order_relaxed);
}

/// Maps chunk by chunk. Where the source fails, keeps what is needed if there is as much, else nothing: the last of a
/// device's memory is not for a pool to have in store, since launches need some of it, too. From then on growth asks
/// for no more than is needed, until something was given back.
std::size_t ArenaPool::map_chunks(Arena& arena, std::byte* from, std::size_t bytes, std::size_t needed_bytes) {
    const auto offset = static_cast<std::size_t>(from - arena.range.base);
    std::size_t mapped_bytes = 0;
    const auto undo = [&](std::size_t kept_bytes) {
        for (; mapped_bytes > kept_bytes; mapped_bytes -= arena.chunk_bytes)
            source_->unmap(arena.range, offset + mapped_bytes - arena.chunk_bytes, arena.chunk_bytes);
    };
    try {
        for (; mapped_bytes < bytes; mapped_bytes += arena.chunk_bytes)
            source_->map(arena.range, offset + mapped_bytes, arena.chunk_bytes);
    } catch (const out_of_memory& error) {
        note_failure(error);
        source_is_short_ = true;
        undo(mapped_bytes < needed_bytes ? 0 : needed_bytes);
    } catch (...) {
        undo(0);
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
    peak_capacity_bytes_ = std::max(peak_capacity_bytes_, capacity_bytes_ + lent_bytes_);
    ++growths_;
    heap_.give(unmapped, {});
}

/// A range that nothing is mapped in yet; null when there is none to be had.
Arena* ArenaPool::add_arena(std::size_t bytes) {
    auto arena = std::make_unique<Arena>();
    arena->pool = this;
    arena->chunk_bytes = source_->grows() ? chunk_bytes_ : round_up(bytes, pool_unit_bytes);
    std::size_t least_bytes = round_up(bytes, arena->chunk_bytes);
    if (least_bytes > room_bytes()) return nullptr;
    std::size_t range_bytes = least_bytes;
    if (source_->grows()) range_bytes = std::max(least_bytes, most_bytes_);
    // Addresses may be scarce (a limit on them, a sanitizer): less will do.
    for (;; range_bytes = std::max(least_bytes, range_bytes / 2 / arena->chunk_bytes * arena->chunk_bytes)) {
        try {
            arena->range = source_->reserve(range_bytes);
            break;
        } catch (const out_of_memory& error) {
            note_failure(error);
            if (range_bytes == least_bytes) return nullptr;
        }
    }
    Block& all = heap_.make(*arena, arena->range.base, arena->range.bytes);
    all.state = Block::State::unmapped;
    arena->first = &all;
    arenas_.push_back(std::move(arena));
    return arenas_.back().get();
}

/// Maps `bytes` or, where no stretch of addresses holds so much, a part of it; false when nothing was mapped.
bool ArenaPool::map_more(std::size_t bytes) {
    if (bytes > room_bytes()) return false;
    if (source_->grows())
        for (const auto& arena : arenas_)
            for (Block* gap = arena->first; gap != nullptr; gap = gap->after) {
                if (gap->state != Block::State::unmapped) continue;
                const std::size_t asked_bytes = std::min(gap->bytes, round_up(bytes, arena->chunk_bytes));
                if (map_chunks(*arena, gap->ptr, asked_bytes, asked_bytes) == 0) return false;
                make_free(*arena, *gap, asked_bytes);
                return true;
            }
    Arena* added = add_arena(bytes);
    return added != nullptr && grow_in(*added, bytes, granule_bytes);
}

} // namespace cuda_zstd::detail
