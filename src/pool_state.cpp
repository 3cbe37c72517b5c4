// SPDX-License-Identifier: MIT
#include "pool_state.hpp"

#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"
#include "pool_registry.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace cuda_zstd {

using namespace detail;

namespace {

Backend& backend_for(const PoolOptions& options) {
    if (options.custom_backend != nullptr) return *options.custom_backend;
    return options.backend ? Backend::get(*options.backend) : Backend::get();
}

constexpr auto relaxed = std::memory_order_relaxed;
/// What streams that may be gone can hold back before all streams are waited for; a quarter of the capacity, if more.
constexpr std::size_t most_open_bytes = std::size_t{256} << 20;

[[noreturn]] void refuse_capture(const char* call) {
    throw usage_error(std::string(call) + " on a stream that is being captured into a graph: the pool orders blocks by "
                                          "the work that runs, and a graph runs later and again; allocate before the "
                                          "capture begins and free after the graph's last launch");
}

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

/// A thread keeps little of a small pool, and not much of any.
std::size_t most_cached_bytes(std::size_t most_bytes) { return std::min(most_bytes / 32, std::size_t{64} << 20); }

MemoryPoolManager::State::State(const PoolOptions& checked)
    : options(checked), backend(backend_for(checked)), observer_(checked, backend, [this] { return figures(); }),
      order_(backend), large_(checked, order_, observer_.source(source_for(checked, backend.kind()))),
      medium_(checked.strategy, order_, large_), small_(checked.small_limit_bytes, order_, medium_),
      graphs_(backend, large_),
      caches_(most_cached_bytes(large_.most_bytes()), [this](ThreadCache& cache) { leave(cache); }) {
    PoolRegistry::get().enter(this, [this] { return give_back(); });
}

MemoryPoolManager::State::~State() {
    PoolRegistry::get().leave(this);
    caches_.disconnect();
    try {
        // What tasks have thrown is for their own stream's next synchronize, not for a pool that ends beside them.
        backend.wait_idle();
    } catch (const std::exception& error) {
        if (options.diagnostics != nullptr)
            std::fprintf(options.diagnostics, "cuda_zstd: waiting for the last work failed: %s\n", error.what());
    }
    report_leaks("when the pool ends");
    graphs_.reclaim();
    if (const GraphFigures held = graphs_.figures(); held.graphs != 0 && options.diagnostics != nullptr)
        std::fprintf(options.diagnostics, "cuda_zstd: %zu graphs still have %zu bytes of a pool that ends\n",
                     held.graphs, held.bytes);
    // Tickets go before the order that made them, memory last.
    small_.clear();
    medium_.clear();
    large_.reset();
}

void MemoryPoolManager::State::report_leaks(const char* when) const {
    if (const std::size_t bytes = allocated_bytes(); bytes != 0 && options.diagnostics != nullptr)
        std::fprintf(options.diagnostics, "cuda_zstd: %zu bytes still allocated %s\n%s", bytes, when,
                     live_blocks_text().c_str());
}

StreamRef MemoryPoolManager::State::stream_of(cudaStream_t stream, const char* call) const {
    require_own_process();
    if (backend.is_capturing(stream)) refuse_capture(call);
    return {stream, backend.stream_id(stream)};
}

void MemoryPoolManager::State::refuse(const RegisteredStream& stream, const char* call) const {
    if (stream.pool().state_.get() != this)
        throw usage_error(std::string(call) + " on a stream that is registered with another pool");
    refuse_capture(call);
}

/// An announced capture.
StreamRef MemoryPoolManager::State::captured(const RegisteredStream& stream, const char* call) const {
    require_own_process();
    if (!backend.is_capturing(stream.handle()))
        throw usage_error(std::string(call) +
                          " on a registered stream that is said to be captured, but its capture is not under way: "
                          "announce it right before it begins and tell its end right after");
    return {stream.handle(), stream.id(), StreamLife::captured};
}

void MemoryPoolManager::State::verify(const RegisteredStream& stream, const char* call) const {
    if (backend.stream_id(stream.handle()) != stream.id())
        throw usage_error(std::string(call) + " on a registered stream that was destroyed");
    if (backend.is_capturing(stream.handle()))
        throw usage_error(std::string(call) + " on a registered stream whose capture was not announced");
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

/// Cached memory first; then what threads keep at hand; then growth and waiting in the policy's order; then, when all
/// memory is in use, what pending frees and the smaller pools hold back.
MemoryPoolManager::State::Piece MemoryPoolManager::State::take_with_all_means(std::size_t bytes, std::size_t alignment,
                                                                              const StreamRef& stream, PoolKind kind) {
    Piece piece = take(bytes, alignment, stream, kind, Effort::cached);
    if (piece) return piece;
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
        order_.close_all();
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
    collect();
    order_.close_all();
    order_.wait_on_host(stranded_pending());
    collect_stranded();
    small_.wait_on_host();
    small_.flush();
    medium_.wait_on_host();
    medium_.flush();
    large_.wait_on_host();
}

MemoryPoolManager::State::Granted MemoryPoolManager::State::allocate(std::size_t bytes, std::size_t alignment,
                                                                     const StreamRef& stream, PoolKind kind) {
    if (stream.life == StreamLife::captured) [[unlikely]]
        return allocate_for_graph(bytes, alignment, stream);
    ThreadCache* cache = caches_.mine();
    if (cache != nullptr && alignment <= granule_bytes && kind != PoolKind::device) {
        const OwnersStay stay(cache->lock());
        if (const Record* record = cache->allocate(kind, bytes, stream.id)) return {record->ptr(), record->sequence()};
    }
    ThreadCache& counting = cache != nullptr ? *cache : caches_.nobodys();
    const std::uint64_t source_failures = large_.source_failures();
    Granted granted = allocate_from_pools(bytes, alignment, stream, kind, counting);
    // With no lock held. Other pools can help only where it is the machine that has no more.
    if (granted.ptr == nullptr && large_.source_failures() != source_failures && PoolRegistry::get().relieve(this) != 0)
        granted = allocate_from_pools(bytes, alignment, stream, kind, counting);
    while (granted.ptr == nullptr && options.on_out_of_memory && options.on_out_of_memory(bytes))
        granted = allocate_from_pools(bytes, alignment, stream, kind, counting);
    return granted;
}

/// Not counted with the blocks: it is the graph's. What frees have left behind is collected only where that needs no
/// stream's work to be waited for.
MemoryPoolManager::State::Granted MemoryPoolManager::State::allocate_for_graph(std::size_t bytes, std::size_t alignment,
                                                                               const StreamRef& stream) {
    require_own_process();
    const Turnstile::Passage passage(turnstile_);
    graphs_.reclaim();
    void* ptr = graphs_.allocate(bytes, alignment, stream);
    if (ptr == nullptr) {
        medium_.give_back_surplus();
        ptr = graphs_.allocate(bytes, alignment, stream);
    }
    if (ptr == nullptr) {
        failed_.fetch_add(1, relaxed);
        observer_.out_of_memory(bytes, stream.id);
    }
    return {ptr, 0};
}

MemoryPoolManager::State::Granted MemoryPoolManager::State::allocate_from_pools(std::size_t bytes,
                                                                                std::size_t alignment,
                                                                                const StreamRef& stream, PoolKind kind,
                                                                                ThreadCache& counting) {
    require_own_process();
    const Turnstile::Passage passage(turnstile_);
    if (graphs_.has_gone()) [[unlikely]]
        graphs_.reclaim();
    Piece piece;
    if (bytes <= large_.most_bytes()) piece = take_with_all_means(bytes, alignment, stream, kind);
    if (!piece) {
        failed_.fetch_add(1, relaxed);
        observer_.out_of_memory(bytes, stream.id);
        return {};
    }
    if (piece.origin != Origin::own) Observer::found_in(piece.origin);
    Record* record = nullptr;
    try {
        order_.wait_on_device(stream, piece.dependencies);
        record = &live_.insert(piece.ptr);
    } catch (...) {
        if (piece.slab != nullptr)
            small_.give(piece.ptr, *piece.slab, piece.dependencies);
        else
            pool_of(*piece.block).give(*piece.block, std::move(piece.dependencies));
        throw;
    }
    const bool is_slot = piece.slab != nullptr;
    record->owner = is_slot ? static_cast<void*>(piece.slab) : piece.block;
    record->set_sizes(piece.bytes, bytes);
    record->stream_id = stream.id;
    record->ticks = ticks_now();
    record->number_and_marks =
        (is_slot ? Record::is_slot_mark | std::uint64_t{SmallPool::class_of(piece.bytes)} << Record::class_shift : 0) |
        // A registered stream's blocks can be asked for while a thread has them at hand.
        (stream.life == StreamLife::registered || piece.dependencies.sole_stream() == stream.id ? Record::returning_mark
                                                                                                : 0);
    record->since_allocation = std::move(piece.dependencies);
    if (kind == PoolKind::device) device_pools_.fetch_add(1, relaxed);
    const OwnersStay stay(counting.lock());
    record->renumber(counting.next_sequence(), kind, 0);
    if (piece.origin == Origin::own)
        counting.tally.hit(kind, SmallPool::class_of(bytes), bytes, piece.bytes, caches_.shared.published);
    else
        counting.tally.miss(kind, bytes, piece.bytes, caches_.shared.published);
    counting.count(stream.id, {1, piece.origin == Origin::own ? 0u : 1u, 0});
    const Granted granted{piece.ptr, record->sequence()};
    record->become(kind == PoolKind::device ? Record::State::device_arena : Record::State::live);
    return granted;
}

void MemoryPoolManager::State::deallocate(void* ptr, const StreamRef& stream, Record::State what) {
    if (stream.life == StreamLife::captured) [[unlikely]] {
        const Turnstile::Passage passage(turnstile_);
        return graphs_.deallocate(ptr, stream);
    }
    ThreadCache* cache = caches_.mine();
    Record* record = nullptr;
    if (cache != nullptr && what == Record::State::live) {
        record = live_.find(ptr);
        if (record != nullptr) {
            const OwnersStay stay(cache->lock());
            if (cache->deallocate(*record, ptr, stream.id)) return;
        }
    }
    if (deallocate_to_pools(ptr, record, stream, what, cache)) return;
    if (what == Record::State::live && device_arenas.free_block(ptr, stream.handle)) return;
    const Alone alone(*this);
    const std::string of_graph = graphs_.explain(ptr);
    throw usage_error("cannot free: " + (of_graph.empty() ? live_.explain(ptr) : of_graph));
}

/// `record` is where the block was a moment ago, or null.
bool MemoryPoolManager::State::deallocate_to_pools(void* ptr, Record* record, const StreamRef& stream,
                                                   Record::State what, ThreadCache* cache) {
    require_own_process();
    const Turnstile::Passage passage(turnstile_);
    if (record == nullptr || !record->claim(ptr, what)) {
        record = live_.find(ptr);
        if (record == nullptr || !record->claim(ptr, what)) return false;
    }
    try {
        if (cache == nullptr || !keep(*record, stream, *cache))
            give(*record, stream, cache != nullptr ? *cache : caches_.nobodys());
    } catch (...) {
        record->become(what);
        throw;
    }
    return true;
}

/// Frees a claimed block into its pool.
void MemoryPoolManager::State::give(Record& record, const StreamRef& stream, ThreadCache& counting) {
    Dependencies since = record.since_allocation;
    // The stream's work before the allocation is named by no ticket.
    if (record.is_unticketed() && record.stream_id != stream.id)
        since.add(late_ticket(record.stream_id, record.usable_bytes()));
    bool has_open = false;
    since.for_each([&](const TicketRef& ticket) { has_open |= ticket->state.load(relaxed) == Ticket::State::open; });
    // A slot has one ticket, so that the stream must wait for the others; but for an open one it cannot.
    const bool strands = record.is_slot() && record.stream_id != stream.id && has_open;
    // Before the block is published: who finds it must find what it waits for.
    Dependencies dependencies =
        record.is_slot() && !strands
            ? Dependencies(order_.freed_on_as_one(stream, record.usable_bytes(), record.stream_id, std::move(since)))
            : order_.freed_on(stream, record.usable_bytes(), record.stream_id, std::move(since));
    {
        const OwnersStay stay(counting.lock());
        counting.tally.freed(record.kind(), record.requested_bytes(), record.usable_bytes(), caches_.shared.published);
        counting.count(stream.id, {0, 0, 1});
    }
    if (record.kind() == PoolKind::device) device_pools_.fetch_sub(1, relaxed);
    if (strands) {
        record.since_allocation = std::move(dependencies);
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
        small_.give(ptr, *slab, dependencies);
    else
        pool_of(*block).give(*block, std::move(dependencies));
}

void MemoryPoolManager::State::reset() {
    require_own_process();
    const Alone alone(*this);
    // A pool that grows has memory of its own and counts here alone.
    if (const std::size_t pools = std::max<std::size_t>(device_pools_.load(relaxed), device_arenas.count()); pools != 0)
        throw usage_error("reset() while " + std::to_string(pools) +
                          (pools == 1 ? " device pool lives" : " device pools live") +
                          " in the arenas: destroy first what uses them");
    graphs_.reclaim();
    if (const std::size_t graphs = graphs_.figures().graphs; graphs != 0)
        throw usage_error("reset() while " + std::to_string(graphs) + (graphs == 1 ? " graph has" : " graphs have") +
                          " memory of the pool: destroy first what was captured and instantiated");
    backend.wait_idle();
    std::int64_t bytes = 0;
    alone.caches.for_each([&](ThreadCache& cache) {
        const std::lock_guard lock(cache.lock());
        bytes += cache.tally.live_bytes;
        cache.forget_blocks();
        cache.tally.forget_live(caches_.shared.published);
    });
    stranded_ = {};
    const std::size_t blocks = live_.invalidate_all();
    observer_.was_reset();
    small_.clear();
    medium_.clear();
    large_.reset();
    resets_.fetch_add(1, relaxed);
    reset_invalidated_.store(blocks, relaxed);
    total_invalidated_.fetch_add(blocks, relaxed);
    if (blocks != 0 && options.diagnostics != nullptr)
        std::fprintf(options.diagnostics, "cuda_zstd: reset() invalidates %zu live blocks (%lld bytes)\n", blocks,
                     static_cast<long long>(bytes));
}

void MemoryPoolManager::State::trim(std::size_t keep_bytes) {
    require_own_process();
    const Turnstile::Passage passage(turnstile_);
    device_arenas.launch_frees();
    graphs_.reclaim();
    drain();
    large_.trim(keep_bytes);
}

/// For another pool, which finds no memory: how many bytes went back to the source.
std::size_t MemoryPoolManager::State::give_back() noexcept {
    const std::size_t before_bytes = large_.figures().capacity_bytes;
    try {
        trim(0);
    } catch (const std::exception& error) {
        if (options.diagnostics != nullptr)
            std::fprintf(options.diagnostics, "cuda_zstd: a pool that another one asks for memory: %s\n", error.what());
    }
    const std::size_t after_bytes = large_.figures().capacity_bytes;
    return before_bytes - std::min(before_bytes, after_bytes);
}

void MemoryPoolManager::State::reserve(std::size_t bytes) {
    require_own_process();
    const Turnstile::Passage passage(turnstile_);
    large_.reserve(bytes);
}

TraceFigures MemoryPoolManager::State::figures() const {
    const ArenaFigures arenas = large_.figures();
    return {allocated_bytes(), arenas.capacity_bytes, arenas.free.bytes, arenas.free.largest_bytes};
}

} // namespace cuda_zstd
