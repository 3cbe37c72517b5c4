// SPDX-License-Identifier: MIT
// What is counted, always.
//
// Invariant: a thread counts in a tally of its own, so a count is an addition; the sum over all tallies, taken with all
// of them held still, is exact. The highest sum of live bytes is the exception, since nobody sees all tallies all the
// time: each thread publishes a bound of its own that is never below its live bytes and at most 16 MiB above. So the
// peak is exact for one thread, never too low, and too high by at most 16 MiB for each further one.
#pragma once

#include "cuda_zstd/host/small_pool.hpp"
#include "cuda_zstd/host/statistics.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cuda_zstd::detail {

/// The sum of the threads' bounds, and the highest that it was.
struct PublishedBytes {
    std::atomic<std::int64_t> now{0};
    std::atomic<std::int64_t> peak{0};
};

/// Counts of one thread; blocks are freed by other threads, so the live ones may be below zero.
class Tally {
public:
    struct OfPool {
        std::int64_t allocated_bytes = 0;
        std::int64_t live_block_bytes = 0;
        std::uint64_t allocations = 0;
        std::uint64_t deallocations = 0;
        /// Allocated and neither freed nor live: by reset().
        std::int64_t forgotten = 0;
        std::uint64_t misses = 0;
        std::int64_t live_blocks() const noexcept {
            return static_cast<std::int64_t>(allocations - deallocations) - forgotten;
        }
    };
    struct OfClass {
        std::uint64_t allocations = 0;
        std::uint64_t misses = 0;
    };

    /// `index` is the class of `bytes`.
    void hit(PoolKind kind, unsigned index, std::size_t bytes, std::size_t usable_bytes, PublishedBytes& published) {
        OfPool& pool = pools[static_cast<std::size_t>(kind)];
        pool.allocated_bytes += static_cast<std::int64_t>(bytes);
        pool.live_block_bytes += static_cast<std::int64_t>(usable_bytes);
        ++pool.allocations;
        ++classes[index].allocations;
        live_bytes += static_cast<std::int64_t>(bytes);
        if (live_bytes > bound_bytes_) publish(published);
    }
    void miss(PoolKind kind, std::size_t bytes, std::size_t usable_bytes, PublishedBytes& published) {
        const unsigned index = SmallPool::class_of(bytes);
        hit(kind, index, bytes, usable_bytes, published);
        ++pools[static_cast<std::size_t>(kind)].misses;
        ++classes[index].misses;
    }
    void freed(PoolKind kind, std::size_t bytes, std::size_t usable_bytes, PublishedBytes& published) {
        OfPool& pool = pools[static_cast<std::size_t>(kind)];
        pool.allocated_bytes -= static_cast<std::int64_t>(bytes);
        pool.live_block_bytes -= static_cast<std::int64_t>(usable_bytes);
        ++pool.deallocations;
        live_bytes -= static_cast<std::int64_t>(bytes);
        if (live_bytes < bound_bytes_ - slack_bytes) publish(published);
    }

    /// Makes the bound exact.
    void publish(PublishedBytes& published) {
        const std::int64_t more = live_bytes - bound_bytes_;
        bound_bytes_ = live_bytes;
        const std::int64_t now = published.now.fetch_add(more, std::memory_order_relaxed) + more;
        std::int64_t peak = published.peak.load(std::memory_order_relaxed);
        while (peak < now && !published.peak.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
        }
    }
    void add(const Tally& other) {
        for (std::size_t i = 0; i < pools.size(); ++i) {
            pools[i].allocated_bytes += other.pools[i].allocated_bytes;
            pools[i].live_block_bytes += other.pools[i].live_block_bytes;
            pools[i].allocations += other.pools[i].allocations;
            pools[i].deallocations += other.pools[i].deallocations;
            pools[i].forgotten += other.pools[i].forgotten;
            pools[i].misses += other.pools[i].misses;
        }
        for (std::size_t i = 0; i < classes.size(); ++i) {
            classes[i].allocations += other.classes[i].allocations;
            classes[i].misses += other.classes[i].misses;
        }
        live_bytes += other.live_bytes;
        bound_bytes_ += other.bound_bytes_;
    }
    /// Nothing lives any more.
    void forget_live(PublishedBytes& published) {
        for (OfPool& pool : pools) {
            pool.allocated_bytes = pool.live_block_bytes = 0;
            pool.forgotten += pool.live_blocks();
        }
        live_bytes = 0;
        publish(published);
    }

    std::array<OfPool, pool_kinds> pools{};
    std::array<OfClass, request_class_count> classes{};
    std::int64_t live_bytes = 0;

private:
    static constexpr std::int64_t slack_bytes = std::int64_t{16} << 20;
    std::int64_t bound_bytes_ = 0;
};

} // namespace cuda_zstd::detail
