// SPDX-License-Identifier: MIT
// What a MemoryPoolManager is made of.
//
// Invariant: a block is in the live table exactly while no pool has it: it is a caller's, in a magazine, stranded, or
// in the hands of a thread behind the turnstile. A call that a magazine can serve is done under the lock of the
// thread's cache; any other passes the turnstile. Who is alone has the turnstile and all caches closed.
#pragma once

#include "cuda_zstd/host/arena.hpp"
#include "cuda_zstd/host/live_table.hpp"
#include "cuda_zstd/host/options.hpp"
#include "cuda_zstd/host/registered_stream.hpp"
#include "cuda_zstd/host/small_pool.hpp"
#include "cuda_zstd/host/span_pool.hpp"
#include "cuda_zstd/host/statistics.hpp"
#include "cuda_zstd/host/stream_order.hpp"
#include "cuda_zstd_memory_pool.h"
#include "device_arenas.hpp"
#include "fork_guard.hpp"
#include "graph_arenas.hpp"
#include "thread_caches.hpp"
#include "trace_observer.hpp"
#include "turnstile.hpp"

#include <array>
#include <atomic>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace cuda_zstd {

/// Hidden: as a part of an exported class it would be exported too.
struct __attribute__((visibility("hidden"))) MemoryPoolManager::State {
    explicit State(const PoolOptions& checked);
    ~State();

    using Granted = detail::Granted;
    using Record = detail::BlockRecord;
    /// The stream as the pool's parts know it. Throws `usage_error` when it is being captured, naming `call`.
    detail::StreamRef stream_of(cudaStream_t stream, const char* call);
    detail::StreamRef stream_of(const RegisteredStream& stream, const char* call) const {
        if (stream.pool().state_.get() != this || stream.is_capturing()) refuse(stream, call);
#ifndef NDEBUG
        verify(stream, call);
#endif
        return {stream.handle(), stream.id(), detail::StreamLife::registered};
    }

    /// Throws `usage_error`, `cuda_error`. In line is what a magazine can serve.
    [[gnu::always_inline]] Granted allocate(std::size_t bytes, std::size_t alignment, const detail::StreamRef& stream,
                                            PoolKind kind) {
        detail::ThreadCache* const cache = caches_.mine();
        if (cache != nullptr && alignment <= detail::granule_bytes && kind != PoolKind::device &&
            stream.life != detail::StreamLife::captured) [[likely]] {
            const detail::OwnersStay stay(cache->lock(), detail::OwnersStay::known_owner);
            if (const Granted granted = cache->allocate(kind, bytes, stream.id); granted.ptr != nullptr) return granted;
        }
        return allocate_elsewhere(bytes, alignment, stream, kind, cache);
    }
    PoolKind kind_of(std::size_t bytes) const noexcept {
        if (bytes < options.small_limit_bytes) return PoolKind::small;
        return bytes <= options.medium_limit_bytes ? PoolKind::medium : PoolKind::large;
    }
    /// `what` is the state that the block must have: live, or device_arena. In line is what a magazine can take.
    [[gnu::always_inline]] void deallocate(void* ptr, const detail::StreamRef& stream,
                                           detail::BlockRecord::State what) {
        detail::ThreadCache* const cache = caches_.mine();
        Record* record = nullptr;
        if (cache != nullptr && what == Record::State::live && stream.life != detail::StreamLife::captured) [[likely]] {
            const detail::OwnersStay stay(cache->lock(), detail::OwnersStay::known_owner);
            record = live_.find(ptr);
            if (record != nullptr && cache->deallocate(*record, ptr, stream.id)) return;
        }
        deallocate_elsewhere(ptr, record, stream, what, cache);
    }
    void reset();
    void trim(std::size_t keep_bytes);
    void reserve(std::size_t bytes);
    std::size_t usable_size(const void* ptr) const;
    std::size_t allocated_bytes() const {
        require_own_process();
        return static_cast<std::size_t>(caches_.live_bytes());
    }
    PoolStatistics statistics() const;
    std::vector<StreamShare> stream_statistics() const;
    std::vector<PoolBlock> snapshot() const;
    void write_snapshot(std::FILE* to) const;
    std::string live_blocks_text() const;
    /// Lists live blocks, if there are any, where diagnostics go.
    void report_leaks(const char* when) const;
    /// For another pool that was given the address: what the live block is that begins there or holds it; else empty.
    std::string known_as(const void* ptr) const;
    /// Throws `out_of_memory` with the state of the pool.
    [[noreturn]] void throw_out_of_memory(std::size_t bytes) const;
    /// Empty when all parts are sound. No other thread may be inside.
    std::string check() const;

    /// A capture of the registered stream is going to begin: nobody records on it any more. `announced` is the
    /// registration's mark.
    void begin_capture(const RegisteredStream& stream, std::atomic<bool>& announced) noexcept;
    void end_capture(const RegisteredStream& stream, std::atomic<bool>& announced) noexcept;
    void add(const RegisteredStream& stream);
    void remove(const RegisteredStream& stream) noexcept;

    /// Whether this is a child of the process that made the pool: nothing of it may be touched.
    bool is_forked() const noexcept { return detail::is_forked_since(generation_); }
    /// The same for calls that a graph can have a part in: a stream that is being captured is one of life `captured`.
    detail::StreamRef any_stream_of(cudaStream_t stream, const char*) {
        require_own_process();
        require_driver();
        // The driver does not tell the id of a stream that is being captured; while it is, no other has its handle.
        if (backend.is_capturing(stream))
            return {stream, reinterpret_cast<std::uintptr_t>(stream), detail::StreamLife::captured};
        seen_without_capture(stream);
        return {stream, backend.stream_id(stream), detail::StreamLife::unknown};
    }
    detail::StreamRef any_stream_of(const RegisteredStream& stream, const char* call) const {
        if (stream.pool().state_.get() == this && stream.is_capturing()) [[unlikely]]
            return captured(stream, call);
        return stream_of(stream, call);
    }
    void seen_without_capture(cudaStream_t stream) noexcept {
        if (graphs_.has_captures()) [[unlikely]]
            graphs_.end_capture_of(stream);
    }
    void require_own_process() const {
        if (is_forked()) detail::refuse_after_fork("the pool");
    }
    /// Throws `usage_error` when the program ends and the driver may be gone.
    void require_driver() const {
        if (backend.is_retired()) refuse_at_exit();
    }
    [[noreturn]] static void refuse_at_exit();

    /// Where device pools that grow get their memory from.
    detail::ArenaPool& arenas() noexcept { return large_; }

    PoolOptions options;
    Backend& backend;
    detail::DeviceArenas device_arenas;

private:
    /// Memory that is taken from a pool and not yet the caller's.
    struct Piece {
        std::byte* ptr = nullptr;
        std::size_t bytes = 0;
        detail::Slab* slab = nullptr;
        detail::Block* block = nullptr;
        detail::Dependencies dependencies;
        detail::Origin origin = detail::Origin::own;
        explicit operator bool() const noexcept { return ptr != nullptr; }
    };
    /// Where medium blocks and the slabs of small ones come from: spans; but where as little as possible is to be
    /// mapped the arenas themselves, so that they fill the holes between larger blocks, which no span fits in.
    detail::BlockPool& pool_of_medium() noexcept {
        return options.growth == Growth::exact ? static_cast<detail::BlockPool&>(large_) : medium_;
    }
    struct Alone {
        explicit Alone(const State& state) : turnstile(state.turnstile_), caches(state.caches_) {}
        detail::Turnstile::Alone turnstile;
        detail::ThreadCaches::Closed caches;
    };

    detail::StreamRef captured(const RegisteredStream& stream, const char* call) const;
    [[noreturn]] void refuse(const RegisteredStream& stream, const char* call) const;
    void verify(const RegisteredStream& stream, const char* call) const;

    // What no magazine serves.
    Granted allocate_elsewhere(std::size_t bytes, std::size_t alignment, const detail::StreamRef& stream, PoolKind kind,
                               detail::ThreadCache* cache);
    void deallocate_elsewhere(void* ptr, Record* record, const detail::StreamRef& stream, Record::State what,
                              detail::ThreadCache* cache);

    // The way to the pools, behind the turnstile.
    Granted allocate_for_graph(std::size_t bytes, std::size_t alignment, const detail::StreamRef& stream);
    Granted allocate_from_pools(std::size_t bytes, std::size_t alignment, const detail::StreamRef& stream,
                                PoolKind kind, detail::ThreadCache& counting);
    bool deallocate_to_pools(void* ptr, Record* record, const detail::StreamRef& stream, Record::State what,
                             detail::ThreadCache* cache);
    Piece take(std::size_t bytes, std::size_t alignment, const detail::StreamRef& stream, PoolKind kind,
               detail::Effort effort);
    Piece take_within_reach(std::size_t bytes, std::size_t alignment, const detail::StreamRef& stream, PoolKind kind,
                            detail::Effort effort);
    void put_back(Piece piece);
    struct Registered;
    void record_open(std::uint64_t stream_id, const Registered& entry);
    void record_registered(const detail::Dependencies* among);
    Piece take_with_all_means(std::size_t bytes, std::size_t alignment, const detail::StreamRef& stream, PoolKind kind,
                              detail::ThreadCache& own);
    void give(Record& record, const detail::StreamRef& stream, detail::ThreadCache& counting);
    void drain();
    /// Completes or records what open tickets name, as far as captures allow: registered streams' by a record each.
    void close_open();
    std::size_t give_back() noexcept;
    /// For the counters: needs no passage.
    TraceFigures figures() const;

    // Between the magazines and the pools, behind the turnstile; pool_magazines.cpp.
    bool keep(Record& record, const detail::StreamRef& stream, detail::ThreadCache& cache);
    void collect();
    void collect(detail::ThreadCache& cache);
    void collect(detail::ThreadCache& cache, std::uint64_t stream_id);
    void collect_for(const detail::StreamRef& stream);
    void leave(detail::ThreadCache& cache) noexcept;
    detail::TicketRef late_ticket(std::uint64_t stream_id, std::size_t bytes);
    void give_all(detail::Chain& chain, const detail::TicketRef& ticket);
    void give_slots(std::span<const detail::GivenSlot> slots, const detail::TicketRef& ticket) noexcept;
    /// One slot behind at most one ticket.
    void give_slot(std::byte* ptr, detail::Slab& slab, const detail::Dependencies& dependencies) noexcept;
    void give_late(detail::ThreadCache& from, detail::ThreadCache::Leaving leaving);
    void give_deferred(detail::ThreadCache& from, const detail::StreamRef& stream,
                       detail::ThreadCache::Leaving leaving);
    bool pass_on(detail::ThreadCache& cache, const detail::StreamRef& stream);
    void strand(detail::Chain chain) noexcept;
    void collect_stranded();
    detail::Dependencies stranded_pending() const;
    std::size_t bytes_at_hand() const;

    const unsigned generation_ = detail::fork_generation();
    mutable detail::Turnstile turnstile_;
    detail::Observer observer_;
    mutable detail::StreamOrder order_;
    detail::ArenaPool large_;
    detail::SpanPool medium_;
    detail::SlabMap slabs_;
    detail::SmallPool small_;
    detail::GraphArenas graphs_;
    detail::LiveTable live_;
    mutable detail::ThreadCaches caches_;
    /// Free blocks that no pool can take yet: collect() tries again. A slot that waits for two streams, one of them
    /// with an open ticket; or what left a magazine when no ticket could be had.
    mutable std::mutex stranded_mutex_;
    detail::Chain stranded_;
    struct Registered {
        cudaStream_t handle = nullptr;
        unsigned times = 0;
        /// Registrations that have announced a capture.
        unsigned captures = 0;
        detail::NvtxStreamName name;
    };
    bool may_record(const Registered& entry) { return entry.captures == 0 && !backend.is_capturing(entry.handle); }
    /// Held while a registered stream is used outside of a call on it: it cannot be destroyed before its registration
    /// ends, nor its capture begin before it is announced.
    std::mutex registered_mutex_;
    std::unordered_map<std::uint64_t, Registered> registered_;
    std::atomic<std::uint64_t> failed_{0};
    std::atomic<std::uint64_t> host_waits_{0};
    std::atomic<std::uint64_t> resets_{0};
    std::atomic<std::uint64_t> reset_invalidated_{0};
    std::atomic<std::uint64_t> total_invalidated_{0};
    std::atomic<std::size_t> device_pools_{0};

    friend class MemoryPoolManager;
    friend struct PoolInspector;
};

/// For tests: looks into a pool.
struct PoolInspector {
    /// Empty when all parts of the pool are sound. No other thread may use it.
    static std::string check(const MemoryPoolManager& pool) { return pool.state_->check(); }
    /// Bytes that threads keep at hand.
    static std::size_t cached_bytes(const MemoryPoolManager& pool) { return pool.state_->caches_.cached_bytes(); }
};

} // namespace cuda_zstd
