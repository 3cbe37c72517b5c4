// SPDX-License-Identifier: MIT
#include "pool_state.hpp"

#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace cuda_zstd {

using namespace detail;

namespace {

std::shared_ptr<ArenaSource> source_for(const PoolOptions& options, BackendKind backend) {
    if (options.custom_source != nullptr) return options.custom_source;
    if (backend == BackendKind::host &&
        (options.source == SourceKind::cuda_virtual || options.source == SourceKind::cuda_malloc))
        throw configuration_error(std::string("PoolOptions::source = ") +
                                  (options.source == SourceKind::cuda_virtual ? "cuda_virtual" : "cuda_malloc") +
                                  " is not allowed on the host backend, whose threads cannot reach device memory: "
                                  "expected automatic or ordinary");
    switch (options.source) {
    case SourceKind::automatic:
        return make_default_source(backend);
    case SourceKind::cuda_virtual:
        return make_cuda_virtual_source();
    case SourceKind::cuda_malloc:
        return make_cuda_malloc_source();
    case SourceKind::ordinary:
        return make_ordinary_source();
    }
    return nullptr;
}

constexpr auto relaxed = std::memory_order_relaxed;

} // namespace

/// Memory that is taken from a pool and not yet the caller's.
struct MemoryPoolManager::State::Piece {
    std::byte* ptr = nullptr;
    std::size_t bytes = 0;
    Slab* slab = nullptr;
    Block* block = nullptr;
    Dependencies dependencies;
    Origin origin = Origin::own;
    explicit operator bool() const noexcept { return ptr != nullptr; }
};

MemoryPoolManager::State::State(const PoolOptions& checked)
    : options(checked), backend(checked.backend ? Backend::get(*checked.backend) : Backend::get()),
      observer_(checked, backend, [this] { return figures(); }), order_(backend),
      large_(checked, order_, observer_.source(source_for(checked, backend.kind()))),
      medium_(checked.strategy, order_, large_), small_(checked.small_limit_bytes, order_, medium_) {}

MemoryPoolManager::State::~State() {
    try {
        // What tasks have thrown is for their own stream's next synchronize, not for a pool that ends beside them.
        backend.wait_idle();
    } catch (const std::exception& error) {
        if (options.diagnostics != nullptr)
            std::fprintf(options.diagnostics, "cuda_zstd: waiting for the last work failed: %s\n", error.what());
    }
    report_leaks("when the pool ends");
    // Tickets go before the order that made them, memory last.
    small_.clear();
    medium_.clear();
    large_.reset();
}

void MemoryPoolManager::State::report_leaks(const char* when) const {
    if (const std::size_t bytes = allocated_bytes_.load(relaxed); bytes != 0 && options.diagnostics != nullptr)
        std::fprintf(options.diagnostics, "cuda_zstd: %zu bytes still allocated %s\n%s", bytes, when,
                     live_blocks_text().c_str());
}

PoolKind MemoryPoolManager::State::kind_of(std::size_t bytes) const noexcept {
    if (bytes < options.small_limit_bytes) return PoolKind::small;
    return bytes <= options.medium_limit_bytes ? PoolKind::medium : PoolKind::large;
}

StreamRef MemoryPoolManager::State::checked_stream(cudaStream_t stream, const char* call) const {
    if (backend.is_capturing(stream))
        throw usage_error(std::string(call) +
                          " on a stream that is being captured into a graph: the pool orders blocks by "
                          "the work that runs, and a graph runs later and again; allocate before the "
                          "capture begins and free after the graph's last launch");
    return {stream, backend.stream_id(stream)};
}

MemoryPoolManager::State::Piece MemoryPoolManager::State::take(std::size_t bytes, std::size_t alignment,
                                                               const StreamRef& stream, PoolKind kind, Effort effort) {
    if (kind == PoolKind::small && alignment <= granule_bytes) {
        TakenSlot slot = small_.take(bytes, stream, effort);
        if (slot.slab == nullptr) return {};
        return {slot.ptr, slot.slab->size_class->slot_bytes, slot.slab,
                nullptr,  std::move(slot.dependencies),      slot.origin};
    }
    const std::size_t rounded_bytes = round_up(bytes, granule_bytes);
    BlockPool& pool = kind == PoolKind::large || kind == PoolKind::device ? static_cast<BlockPool&>(large_) : medium_;
    Taken taken = pool.take(rounded_bytes, alignment, stream.id, effort);
    if (!taken) return {};
    return {taken.block->ptr, taken.block->bytes, nullptr, taken.block, std::move(taken.dependencies), taken.origin};
}

/// Cached memory first; then growth and waiting in the policy's order; then, when all memory is in use, what pending
/// frees and the smaller pools hold back.
MemoryPoolManager::State::Piece MemoryPoolManager::State::take_with_all_means(std::size_t bytes, std::size_t alignment,
                                                                              const StreamRef& stream, PoolKind kind) {
    Piece piece = take(bytes, alignment, stream, kind, Effort::cached);
    if (piece) return piece;
    static const TraceName name("allocate, miss", TraceCategory::allocate);
    const ObservedWork miss(observer_, name, bytes, stream.id);
    // What medium frees have left to the next miss may be all that is missing.
    if (medium_.give_back_surplus()) {
        piece = take(bytes, alignment, stream, kind, Effort::cached);
        if (piece) return piece;
    }
    const Effort second = options.stream_policy == StreamPolicy::grow_then_wait ? Effort::grow : Effort::wait;
    for (const Effort effort : {second, Effort::all}) {
        piece = take(bytes, alignment, stream, kind, effort);
        if (piece) break;
    }
    if (!piece) {
        drain();
        piece = take(bytes, alignment, stream, kind, Effort::all);
    }
    piece.origin = Origin::source;
    return piece;
}

/// Brings everything that is free back to the arenas, with no work left in it.
void MemoryPoolManager::State::drain() {
    host_waits_.fetch_add(1, relaxed);
    order_.close_all();
    small_.wait_on_host();
    small_.flush();
    medium_.wait_on_host();
    medium_.flush();
    large_.wait_on_host();
}

LiveRecord MemoryPoolManager::State::allocate(std::size_t bytes, std::size_t alignment, cudaStream_t stream,
                                              PoolKind kind) {
    const Turnstile::Passage passage(turnstile_);
    const StreamRef ref = checked_stream(stream, "allocate");
    Piece piece;
    if (bytes <= large_.most_bytes()) piece = take_with_all_means(bytes, alignment, ref, kind);
    if (!piece) {
        failed_.fetch_add(1, relaxed);
        observer_.out_of_memory(bytes, ref.id);
        return {};
    }
    if (piece.origin != Origin::own) Observer::found_in(piece.origin);
    LiveRecord record{piece.ptr, bytes,    piece.bytes, piece.slab,   piece.block, ref.id,
                      0,         now_ns(), kind,        {}};
    try {
        order_.wait_on_device(ref, piece.dependencies);
        record.sequence = sequence_.fetch_add(1, relaxed) + 1;
        record.since_allocation = piece.dependencies;
        live_.insert(record);
    } catch (...) {
        if (piece.slab != nullptr)
            small_.give(piece.ptr, *piece.slab, piece.dependencies);
        else
            pool_of(*piece.block).give(*piece.block, std::move(piece.dependencies));
        throw;
    }
    if (kind == PoolKind::device) device_pools_.fetch_add(1, relaxed);
    count_allocation(kind, bytes, piece.origin);
    counters_[static_cast<std::size_t>(kind)].live_block_bytes.fetch_add(piece.bytes, relaxed);
    return record;
}

void MemoryPoolManager::State::count_allocation(PoolKind kind, std::size_t bytes, Origin origin) {
    Counters& counters = counters_[static_cast<std::size_t>(kind)];
    counters.allocated_bytes.fetch_add(bytes, relaxed);
    counters.live_blocks.fetch_add(1, relaxed);
    counters.allocations.fetch_add(1, relaxed);
    if (origin == Origin::own) counters.hits.fetch_add(1, relaxed);
    const std::size_t now_bytes = allocated_bytes_.fetch_add(bytes, relaxed) + bytes;
    std::size_t peak_bytes = peak_allocated_bytes_.load(relaxed);
    while (peak_bytes < now_bytes && !peak_allocated_bytes_.compare_exchange_weak(peak_bytes, now_bytes, relaxed)) {
    }
}

void MemoryPoolManager::State::deallocate(void* ptr, cudaStream_t stream, LiveTable::Claim what) {
    const Turnstile::Passage passage(turnstile_);
    const StreamRef ref = checked_stream(stream, "deallocate");
    const auto record = live_.claim(ptr, what);
    if (!record) throw usage_error("cannot free: " + live_.explain(ptr));
    Dependencies dependencies;
    try {
        // Before the block is published: who finds it must find what it waits for.
        dependencies = record->slab != nullptr
                           ? Dependencies(order_.freed_on_as_one(ref, record->usable_bytes, record->stream_id,
                                                                 record->since_allocation))
                           : order_.freed_on(ref, record->usable_bytes, record->stream_id, record->since_allocation);
        live_.remember(*record, ref.id);
    } catch (...) {
        live_.insert(*record);
        throw;
    }
    Counters& counters = counters_[static_cast<std::size_t>(record->kind)];
    counters.allocated_bytes.fetch_sub(record->requested_bytes, relaxed);
    counters.live_block_bytes.fetch_sub(record->usable_bytes, relaxed);
    counters.live_blocks.fetch_sub(1, relaxed);
    counters.deallocations.fetch_add(1, relaxed);
    allocated_bytes_.fetch_sub(record->requested_bytes, relaxed);
    if (record->kind == PoolKind::device) device_pools_.fetch_sub(1, relaxed);
    if (record->slab != nullptr)
        small_.give(record->ptr, *record->slab, dependencies);
    else
        pool_of(*record->block).give(*record->block, std::move(dependencies));
}

void MemoryPoolManager::State::reset() {
    const Turnstile::Alone alone(turnstile_);
    if (const std::size_t pools = device_pools_.load(relaxed); pools != 0)
        throw usage_error("reset() while " + std::to_string(pools) +
                          (pools == 1 ? " device pool lives" : " device pools live") +
                          " in the arenas: destroy first what uses them");
    backend.wait_idle();
    const std::size_t bytes = allocated_bytes_.load(relaxed);
    const std::size_t blocks = live_.invalidate_all();
    observer_.was_reset();
    small_.clear();
    medium_.clear();
    large_.reset();
    for (Counters& counters : counters_) {
        counters.allocated_bytes.store(0, relaxed);
        counters.live_block_bytes.store(0, relaxed);
        counters.live_blocks.store(0, relaxed);
    }
    allocated_bytes_.store(0, relaxed);
    resets_.fetch_add(1, relaxed);
    reset_invalidated_.store(blocks, relaxed);
    total_invalidated_.fetch_add(blocks, relaxed);
    if (blocks != 0 && options.diagnostics != nullptr)
        std::fprintf(options.diagnostics, "cuda_zstd: reset() invalidates %zu live blocks (%zu bytes)\n", blocks,
                     bytes);
}

void MemoryPoolManager::State::trim(std::size_t keep_bytes) {
    const Turnstile::Passage passage(turnstile_);
    drain();
    large_.trim(keep_bytes);
}

TraceFigures MemoryPoolManager::State::figures() const {
    const ArenaFigures arenas = large_.figures();
    return {allocated_bytes_.load(relaxed), arenas.capacity_bytes, arenas.free.bytes, arenas.free.largest_bytes};
}

std::string MemoryPoolManager::State::check() const {
    for (std::string found : {small_.check(), medium_.check(), large_.check()})
        if (!found.empty()) return found;
    return {};
}

} // namespace cuda_zstd
