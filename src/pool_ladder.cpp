// SPDX-License-Identifier: MIT
// What a request tries that nothing at hand serves, from the cheapest to the dearest.
#include "pool_state.hpp"

#include <algorithm>
#include <utility>

namespace cuda_zstd {

using namespace detail;

namespace {
/// What streams that may be gone can hold back before all streams are waited for; a quarter of the capacity, if more.
constexpr std::size_t most_open_bytes = std::size_t{256} << 20;
} // namespace

MemoryPoolManager::State::Piece MemoryPoolManager::State::take(std::size_t bytes, std::size_t alignment,
                                                               const StreamRef& stream, PoolKind kind, Effort effort) {
    if (kind == PoolKind::small && alignment <= granule_bytes) {
        TakenSlot slot = small_.take(bytes, stream, effort);
        if (slot.slab == nullptr) return {};
        return {slot.ptr, slot.slab->size_class->slot_bytes, slot.slab,
                nullptr,  std::move(slot.dependencies),      slot.origin};
    }
    const std::size_t rounded_bytes = round_up(bytes, granule_bytes);
    BlockPool& pool = kind == PoolKind::large || kind == PoolKind::device ? large_ : pool_of_medium();
    Taken taken = pool.take(rounded_bytes, alignment, stream.id, effort);
    if (!taken) return {};
    return {taken.block->ptr, taken.block->bytes, nullptr, taken.block, std::move(taken.dependencies), taken.origin};
}

/// As take(), but of memory that the stream can be made to wait for: where a capture forbids to wait for all streams,
/// that is not every block.
MemoryPoolManager::State::Piece MemoryPoolManager::State::take_within_reach(std::size_t bytes, std::size_t alignment,
                                                                            const StreamRef& stream, PoolKind kind,
                                                                            Effort effort) {
    try {
        if (may_wait(effort) && !order_.may_close()) {
            // What can be recorded is within reach; the pools leave the rest as it is.
            record_registered(nullptr);
            order_.record_open(stream);
        }
        Piece piece = take(bytes, alignment, stream, kind, effort);
        const auto has_open = [&] {
            bool found = false;
            piece.dependencies.for_each([&](const TicketRef& ticket) {
                found |= ticket->stream_id != stream.id && ticket->state.load() == Ticket::State::open;
            });
            return found;
        };
        if (!piece || !has_open()) return piece;
        try {
            record_registered(&piece.dependencies);
            if (!has_open() || !backend.captures_go_on()) return piece;
        } catch (...) {
            put_back(std::move(piece));
            throw;
        }
        put_back(std::move(piece));
    } catch (const OutOfReach&) {
        // Memory of a smaller pool that came from a larger one; it is back there.
    }
    return {};
}

void MemoryPoolManager::State::put_back(Piece piece) {
    if (piece.slab != nullptr)
        give_slot(piece.ptr, *piece.slab, piece.dependencies);
    else
        pool_of(*piece.block).give(*piece.block, std::move(piece.dependencies));
}

void MemoryPoolManager::State::close_open() {
    record_registered(nullptr);
    (void)order_.close_all();
}

/// Cached memory first; then what threads keep at hand; then growth and waiting in the policy's order; then, when all
/// memory is in use, what pending frees and the smaller pools hold back.
MemoryPoolManager::State::Piece MemoryPoolManager::State::take_with_all_means(std::size_t bytes, std::size_t alignment,
                                                                              const StreamRef& stream, PoolKind kind,
                                                                              ThreadCache& own) {
    Piece piece = take(bytes, alignment, stream, kind, Effort::cached);
    if (piece) return piece;
    if (pass_on(own, stream)) {
        piece = take(bytes, alignment, stream, kind, Effort::cached);
        if (piece) return piece;
    }
    static const TraceName name("allocate, miss", TraceCategory::allocate);
    const ObservedWork miss(observer_, name, bytes, stream.id);
    if (bytes_at_hand() >= bytes) {
        collect_for(stream);
        piece = take(bytes, alignment, stream, kind, Effort::cached);
        if (piece) return piece;
    }
    // What frees have left to the next miss may be all that is missing.
    const bool small_gave = small_.give_back_surplus();
    if (medium_.give_back_surplus() || small_gave) {
        piece = take(bytes, alignment, stream, kind, Effort::cached);
        if (piece) return piece;
    }
    if (order_.open_bytes() > std::max({bytes, most_open_bytes, large_.figures().capacity_bytes / 4})) {
        close_open();
        piece = take(bytes, alignment, stream, kind, Effort::cached);
        if (piece) return piece;
    }
    // What the stream itself is done with is merged, and exchanged for other chunks, only when it is known to be.
    if (options.growth == Growth::exact) order_.record_open(stream);
    const Effort second = options.stream_policy == StreamPolicy::grow_then_wait ? Effort::grow : Effort::wait;
    for (const Effort effort : {second, Effort::all}) {
        piece = take_within_reach(bytes, alignment, stream, kind, effort);
        if (piece) break;
    }
    if (!piece) {
        drain();
        piece = take_within_reach(bytes, alignment, stream, kind, Effort::all);
    }
    piece.origin = Origin::source;
    return piece;
}

} // namespace cuda_zstd
