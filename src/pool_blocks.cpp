// SPDX-License-Identifier: MIT
// A block's way out of the pools and back: by a magazine of the calling thread, or behind the turnstile.
#include "cuda_zstd/host/error.hpp"
#include "pool_registry.hpp"
#include "pool_state.hpp"

#include <string>
#include <utility>

namespace cuda_zstd {

using namespace detail;

namespace {
constexpr auto relaxed = std::memory_order_relaxed;
}

/// `cache` is the thread's, or null.
MemoryPoolManager::State::Granted MemoryPoolManager::State::allocate_elsewhere(std::size_t bytes, std::size_t alignment,
                                                                               const StreamRef& stream, PoolKind kind,
                                                                               ThreadCache* cache) {
    if (stream.life == StreamLife::captured) [[unlikely]]
        return allocate_for_graph(bytes, alignment, stream);
    ThreadCache& counting = cache != nullptr ? *cache : caches_.nobodys();
    const std::uint64_t source_failures = large_.source_failures();
    Granted granted = allocate_from_pools(bytes, alignment, stream, kind, counting);
    // With no lock held. Others can help only where it is the machine that has no more.
    const auto try_again_after = [&](const auto& relief) {
        if (granted.ptr != nullptr || large_.source_failures() == source_failures || relief() == 0) return;
        granted = allocate_from_pools(bytes, alignment, stream, kind, counting);
    };
    using Of = PoolRegistry::Of;
    try_again_after([&] { return PoolRegistry::get().relieve(this, backend, Of::same_device); });
    try_again_after([&] { return backend.give_back_caches(); });
    try_again_after([&] { return PoolRegistry::get().relieve(this, backend, Of::other_devices); });
    while (granted.ptr == nullptr && options.on_out_of_memory && options.on_out_of_memory(bytes))
        granted = allocate_from_pools(bytes, alignment, stream, kind, counting);
    return granted;
}

MemoryPoolManager::State::Granted MemoryPoolManager::State::allocate_from_pools(std::size_t bytes,
                                                                                std::size_t alignment,
                                                                                const StreamRef& stream, PoolKind kind,
                                                                                ThreadCache& counting) {
    require_own_process();
    require_driver();
    const Turnstile::Passage passage(turnstile_);
    if (graphs_.has_gone()) [[unlikely]]
        graphs_.reclaim();
    Piece piece;
    const auto no_memory = [&] {
        failed_.fetch_add(1, relaxed);
        observer_.out_of_memory(bytes, stream.id);
        return Granted{};
    };
    if (bytes <= large_.most_bytes()) piece = take_with_all_means(bytes, alignment, stream, kind, counting);
    if (!piece) return no_memory();
    if (piece.origin != Origin::own) Observer::found_in(piece.origin);
    const bool is_slot = piece.slab != nullptr;
    Record* record = nullptr;
    // A registered stream's blocks can be asked for while a thread has them at hand.
    const bool is_returning = stream.life == StreamLife::registered || piece.dependencies.sole_stream() == stream.id;
    try {
        order_.wait_on_device(stream, piece.dependencies);
        record = is_slot ? &live_.insert(piece.ptr, *piece.slab) : &live_.insert(piece.ptr, piece.block);
        record->since_allocation.take(piece.dependencies);
    } catch (const OutOfReach&) {
        // A capture has begun since the ladder looked.
        put_back(std::move(piece));
        return no_memory();
    } catch (...) {
        if (record != nullptr) live_.discard(*record);
        put_back(std::move(piece));
        throw;
    }
    if (live_.has_outgrown()) [[unlikely]]
        live_.free_outgrown([this] { caches_.wait_for_owners(); });
    (void)record->begin(record->word(), piece.bytes, bytes);
    record->stream_id = stream.id;
    // A block was stamped when it was taken: one look at the clock.
    record->time_ns = is_slot ? coarse_now_ns() : std::uint64_t{piece.block->timestamp};
    if (kind == PoolKind::device) device_pools_.fetch_add(1, relaxed);
    const OwnersStay stay(counting.lock());
    const std::uint64_t sequence = counting.next_sequence();
    if (piece.origin == Origin::own)
        counting.tally.hit(kind, SmallPool::class_of(bytes), bytes, piece.bytes, caches_.shared.published);
    else
        counting.tally.miss(kind, bytes, piece.bytes, caches_.shared.published);
    counting.count(stream.id, {1, piece.origin == Origin::own ? 0u : 1u, 0});
    record->publish(record->word().renewed(kind == PoolKind::device ? Record::State::device_arena : Record::State::live,
                                           sequence, kind, is_returning ? RecordWord::returning_mark : 0));
    return {piece.ptr, sequence};
}

/// `record` is where the block was a moment ago, or null.
void MemoryPoolManager::State::deallocate_elsewhere(void* ptr, Record* record, const StreamRef& stream,
                                                    Record::State what, ThreadCache* cache) {
    if (stream.life == StreamLife::captured) [[unlikely]] {
        const Turnstile::Passage passage(turnstile_);
        return graphs_.deallocate(ptr, stream);
    }
    if (deallocate_to_pools(ptr, record, stream, what, cache)) return;
    if (what == Record::State::live && device_arenas.free_block(ptr, stream.handle)) return;
    const std::string elsewhere = PoolRegistry::get().owner_of(ptr, this);
    if (!elsewhere.empty()) throw usage_error("cannot free: " + elsewhere);
    const Alone alone(*this);
    const std::string of_graph = graphs_.explain(ptr);
    throw usage_error("cannot free: " + (of_graph.empty() ? live_.explain(ptr) : of_graph));
}

/// `record` is where the block was a moment ago, or null.
bool MemoryPoolManager::State::deallocate_to_pools(void* ptr, Record* record, const StreamRef& stream,
                                                   Record::State what, ThreadCache* cache) {
    require_own_process();
    const Turnstile::Passage passage(turnstile_);
    const auto is_claimed = [&] {
        return record != nullptr && record->claim(ptr, what).state() == Record::State::claimed;
    };
    if (!is_claimed()) {
        record = live_.find_beside_all(ptr);
        if (!is_claimed()) return false;
    }
    try {
        if (cache == nullptr || !keep(*record, stream, *cache))
            give(*record, stream, cache != nullptr ? *cache : caches_.nobodys());
    } catch (...) { // before the block had left the table: whatever comes after that does not throw
        record->become(what);
        throw;
    }
    return true;
}

/// Frees a claimed block into its pool.
void MemoryPoolManager::State::give(Record& record, const StreamRef& stream, ThreadCache& counting) {
    // Before the block is published: who finds it must find what it waits for.
    Dependencies dependencies;
    bool strands = false;
    if (record.stream_id == stream.id) {
        dependencies =
            Dependencies(order_.freed_on_own(stream, record.usable_bytes(), record.since_allocation.are_of(stream.id)));
    } else {
        Dependencies since = record.since_allocation.get();
        // The stream's work before the allocation is named by no ticket.
        if (record.word().is_unticketed()) since.add(late_ticket(record.stream_id, record.usable_bytes()));
        // A slot has one ticket, so that the stream must wait for the others; but for an open one it cannot.
        strands = record.is_slot() && since.has_open();
        dependencies = record.is_slot() && !strands
                           ? Dependencies(order_.freed_on_as_one(stream, record.usable_bytes(), record.stream_id,
                                                                 std::move(since)))
                           : order_.freed_on(stream, record.usable_bytes(), record.stream_id, std::move(since));
    }
    PackedDependencies of_stranded;
    if (strands) of_stranded.take(dependencies);
    {
        const OwnersStay stay(counting.lock());
        counting.tally.freed(record.kind(), record.requested_bytes(), record.usable_bytes(), caches_.shared.published);
        counting.count(stream.id, {0, 0, 1});
    }
    if (record.kind() == PoolKind::device) device_pools_.fetch_sub(1, relaxed);
    if (strands) {
        record.since_allocation.swap(of_stranded);
        record.stream_id = stream.id;
        record.become(Record::State::cached);
        Chain one;
        one.push(record);
        return strand(one);
    }
    std::byte* ptr = record.ptr();
    Slab* slab = record.slab();
    Block* block = record.block();
    live_.retire(record, stream.id);
    if (slab != nullptr)
        give_slot(ptr, *slab, dependencies);
    else
        pool_of(*block).give(*block, std::move(dependencies));
}

} // namespace cuda_zstd
