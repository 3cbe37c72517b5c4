// SPDX-License-Identifier: MIT
// What a MemoryPoolManager is made of.
// Invariant: a block is in the live table exactly while no pool has it.
#pragma once

#include "cuda_zstd/host/arena.hpp"
#include "cuda_zstd/host/live_table.hpp"
#include "cuda_zstd/host/options.hpp"
#include "cuda_zstd/host/small_pool.hpp"
#include "cuda_zstd/host/span_pool.hpp"
#include "cuda_zstd/host/statistics.hpp"
#include "cuda_zstd/host/stream_order.hpp"
#include "cuda_zstd_memory_pool.h"
#include "trace_observer.hpp"
#include "turnstile.hpp"

#include <array>
#include <atomic>
#include <string>
#include <vector>

namespace cuda_zstd {

struct MemoryPoolManager::State {
    explicit State(const PoolOptions& checked);
    ~State();

    /// The block's record; `ptr` is null where there is no memory. Throws `usage_error`, `cuda_error`.
    detail::LiveRecord allocate(std::size_t bytes, std::size_t alignment, cudaStream_t stream, PoolKind kind);
    PoolKind kind_of(std::size_t bytes) const noexcept;
    void deallocate(void* ptr, cudaStream_t stream, detail::LiveTable::Claim what);
    void reset();
    void trim(std::size_t keep_bytes);
    PoolStatistics statistics() const;
    std::vector<PoolBlock> snapshot() const;
    std::string live_blocks_text() const;
    /// Lists live blocks, if there are any, where diagnostics go.
    void report_leaks(const char* when) const;
    /// Throws `out_of_memory` with the state of the pool.
    [[noreturn]] void throw_out_of_memory(std::size_t bytes) const;
    /// Empty when all parts are sound. No other thread may be inside.
    std::string check() const;

    PoolOptions options;
    Backend& backend;

private:
    struct Piece;
    Piece take(std::size_t bytes, std::size_t alignment, const detail::StreamRef& stream, PoolKind kind,
               detail::Effort effort);
    Piece take_with_all_means(std::size_t bytes, std::size_t alignment, const detail::StreamRef& stream, PoolKind kind);
    void drain();
    /// For the counters: needs no passage.
    TraceFigures figures() const;
    void count_allocation(PoolKind kind, std::size_t bytes, detail::Origin origin);
    detail::StreamRef checked_stream(cudaStream_t stream, const char* call) const;

    /// The figures of one pool, as they are counted.
    struct alignas(64) Counters {
        std::atomic<std::size_t> allocated_bytes{0};
        std::atomic<std::size_t> live_block_bytes{0};
        std::atomic<std::size_t> live_blocks{0};
        std::atomic<std::uint64_t> allocations{0};
        std::atomic<std::uint64_t> deallocations{0};
        std::atomic<std::uint64_t> hits{0};
    };

    mutable detail::Turnstile turnstile_;
    detail::Observer observer_;
    mutable detail::StreamOrder order_;
    detail::ArenaPool large_;
    detail::SpanPool medium_;
    detail::SmallPool small_;
    detail::LiveTable live_;
    std::array<Counters, pool_kinds> counters_;
    alignas(64) std::atomic<std::size_t> allocated_bytes_{0};
    std::atomic<std::size_t> peak_allocated_bytes_{0};
    std::atomic<std::uint64_t> sequence_{0};
    std::atomic<std::uint64_t> failed_{0};
    std::atomic<std::uint64_t> host_waits_{0};
    std::atomic<std::uint64_t> resets_{0};
    std::atomic<std::uint64_t> reset_invalidated_{0};
    std::atomic<std::uint64_t> total_invalidated_{0};
    std::atomic<std::size_t> device_pools_{0};

    friend class MemoryPoolManager;
};

/// For tests: looks into a pool.
struct PoolInspector {
    /// Empty when all parts of the pool are sound. No other thread may use it.
    static std::string check(const MemoryPoolManager& pool) { return pool.state_->check(); }
};

} // namespace cuda_zstd
