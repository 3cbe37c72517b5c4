// SPDX-License-Identifier: MIT
// The ring that kernels write events to, and how it is emptied while they go on.
//
// Invariant: a processor's share (shard) is two buffers and a word: the epoch, and how many places of the epoch's
// buffer were asked for. A place belongs to who got its number from the word, and is written once in an epoch; its
// stamp is written last. Emptying moves the word to the next epoch, and does so only when every event of the epoch
// before has been taken: so a writer that is late, however late, writes into memory that is still its own. Events
// beyond the buffer's places are dropped, the newest first, and counted exactly.
//
// Cost of an event: one atomic for all lanes of a warp that write together, and 32 bytes a lane. Who writes never
// waits. Ordering: an event that is taken was written before; events of different processors are ordered by their times
// only.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/device/device_event.hpp"
#include "cuda_zstd/env/environment.hpp"

#include <cstddef>
#include <cstdint>

#if !defined(__CUDA_ARCH__)
#include <chrono>
#endif

namespace cuda_zstd {

/// The clock of events, in nanoseconds.
CUDA_ZSTD_INLINE std::uint64_t event_clock_ns() {
#if defined(__CUDA_ARCH__)
    std::uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
#else
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
            .count());
#endif
}

/// Where a ring lies, and its shape. The memory is zero before the first use, aligned to 128 B.
struct EventRingArea {
    void* base = nullptr;
    std::uint32_t shards = 1;
    /// Places of a buffer.
    std::uint32_t places = 0;

    static constexpr std::size_t header_bytes = 128;
    CUDA_ZSTD_INLINE std::size_t shard_bytes() const {
        return header_bytes + std::size_t{2} * places * sizeof(DeviceEvent);
    }
    std::size_t bytes() const { return shards * shard_bytes(); }
};

/// What emptying found of one shard; `events` follow one another in its part of the output.
struct EventDrain {
    std::uint32_t events = 0;
    /// Events of finished epochs whose writers are not done yet: the next time.
    std::uint32_t late = 0;
    /// Since the beginning.
    std::uint64_t dropped = 0;
};

template <class Env>
class EventRing {
public:
    template <class T>
    using atom = typename Env::template atom<T>;

    EventRing() = default;
    explicit CUDA_ZSTD_HD EventRing(const EventRingArea& area) : area_(area) {}

    /// Writes an event, or counts it as dropped. Any lanes of a warp may call together.
    CUDA_ZSTD_HD void write(Env& env, const DeviceEvent& event) const {
        const LaneMask lanes = env.converged();
        const unsigned leader = lowest_bit(lanes);
        const unsigned processor = env.processor();
        // Lanes of a warp are on one processor, but may be told so at two moments.
        const std::uint32_t shard = env.shfl(lanes, static_cast<std::uint32_t>(processor % area_.shards), leader);
        const Header& header = header_of(shard);
        std::uint64_t word = 0;
        // Acquire: who emptied the buffer before has read it.
        if (env.lane() == leader) word = env.fetch_add(header.word, std::uint64_t{popcount(lanes)}, Order::acquire);
        word = env.shfl(lanes, word, leader);
        env.sync(lanes); // what the leader acquired holds for all from here
        const std::uint64_t place = (word & count_mask) + popcount(lanes & env.lanes_before());
        if (place >= area_.places) return;
        const auto epoch = static_cast<std::uint32_t>(word >> count_bits);
        Cell& cell = cells_of(shard, epoch)[place];
        cell.time_ns = event.time_ns;
        cell.block_class_kind =
            event.block << 16 | std::uint64_t{event.size_class} << 8 | static_cast<std::uint64_t>(event.kind);
        cell.bytes_processor = event.bytes << 16 | (processor & 0xffffu);
        env.store(cell.stamp, std::uint64_t{event.kernel} << 32 | written | (epoch & epoch_mask), Order::release);
    }

    // Emptying one shard: `begin`, `take`, `advance`, `take`, `end`, each by all threads of a team, with a barrier
    // after each. One team at a time. `out` has twice the shard's places.

    CUDA_ZSTD_HD void begin(Env& env, std::uint32_t shard, std::uint32_t thread) const {
        if (thread == 0) env.store(header_of(shard).taken, 0u, Order::relaxed);
    }
    /// Takes what has been written of the last epoch that was closed.
    CUDA_ZSTD_HD void take(Env& env, std::uint32_t shard, DeviceEvent* out, std::uint32_t thread,
                           std::uint32_t threads) const {
        const Header& header = header_of(shard);
        const std::uint32_t epoch = env.load(header.closed_epoch, Order::relaxed);
        const std::uint32_t used = env.load(header.used, Order::relaxed);
        Cell* const cells = cells_of(shard, epoch);
        for (std::uint32_t place = thread; place < used; place += threads) {
            Cell& cell = cells[place];
            const std::uint64_t stamp = env.load(cell.stamp, Order::acquire);
            if ((stamp & (written | epoch_mask)) != (written | (epoch & epoch_mask))) continue;
            DeviceEvent event;
            event.time_ns = cell.time_ns;
            event.block = cell.block_class_kind >> 16;
            event.bytes = cell.bytes_processor >> 16;
            event.kernel = static_cast<std::uint32_t>(stamp >> 32);
            event.processor = static_cast<std::uint16_t>(cell.bytes_processor);
            event.size_class = static_cast<std::uint8_t>(cell.block_class_kind >> 8);
            event.kind = static_cast<DeviceEventKind>(cell.block_class_kind & 0xffu);
            env.store(cell.stamp, std::uint64_t{0}, Order::relaxed);
            out[env.fetch_add(header.taken, 1u, Order::relaxed)] = event;
            env.fetch_sub(header.left, 1u, Order::relaxed);
        }
    }
    /// Closes the present epoch, if all of the one before has been taken.
    CUDA_ZSTD_HD void advance(Env& env, std::uint32_t shard, std::uint32_t thread) const {
        if (thread != 0) return;
        const Header& header = header_of(shard);
        if (env.load(header.left, Order::relaxed) != 0) return;
        const std::uint64_t next_epoch = (env.load(header.word, Order::relaxed) >> count_bits) + 1;
        const std::uint64_t word = env.exchange(header.word, next_epoch << count_bits, Order::acq_rel);
        const std::uint64_t asked = word & count_mask;
        const auto used = static_cast<std::uint32_t>(asked < area_.places ? asked : area_.places);
        env.store(header.closed_epoch, static_cast<std::uint32_t>(word >> count_bits), Order::relaxed);
        env.store(header.used, used, Order::relaxed);
        env.store(header.left, used, Order::relaxed);
        env.store(header.dropped, env.load(header.dropped, Order::relaxed) + asked - used, Order::relaxed);
    }
    CUDA_ZSTD_HD void end(Env& env, std::uint32_t shard, EventDrain* result, std::uint32_t thread) const {
        if (thread != 0) return;
        const Header& header = header_of(shard);
        result->events = env.load(header.taken, Order::relaxed);
        result->late = env.load(header.left, Order::relaxed);
        result->dropped = env.load(header.dropped, Order::relaxed);
    }

    CUDA_ZSTD_INLINE const EventRingArea& area() const { return area_; }

private:
    static constexpr unsigned count_bits = 48;
    static constexpr std::uint64_t count_mask = (std::uint64_t{1} << count_bits) - 1;
    static constexpr std::uint64_t epoch_mask = 0xffff;
    static constexpr std::uint64_t written = 0x10000;

    struct Header {
        mutable atom<std::uint64_t> word;
        // The rest belongs to who empties.
        mutable atom<std::uint64_t> dropped;
        mutable atom<std::uint32_t> closed_epoch;
        mutable atom<std::uint32_t> used;  ///< places of that epoch that were given out
        mutable atom<std::uint32_t> left;  ///< of these, not taken yet
        mutable atom<std::uint32_t> taken; ///< in this round
    };
    static_assert(sizeof(Header) <= EventRingArea::header_bytes);
    struct Cell {
        std::uint64_t time_ns;
        std::uint64_t block_class_kind; ///< 48, 8 and 8 bits
        std::uint64_t bytes_processor;  ///< 48 and 16 bits
        atom<std::uint64_t> stamp;      ///< kernel, whether it is written, epoch
    };
    static_assert(sizeof(Cell) == sizeof(DeviceEvent));

    CUDA_ZSTD_INLINE char* shard_at(std::uint32_t shard) const {
        return static_cast<char*>(area_.base) + shard * area_.shard_bytes();
    }
    CUDA_ZSTD_INLINE const Header& header_of(std::uint32_t shard) const {
        return *reinterpret_cast<const Header*>(shard_at(shard));
    }
    CUDA_ZSTD_INLINE Cell* cells_of(std::uint32_t shard, std::uint32_t epoch) const {
        return reinterpret_cast<Cell*>(shard_at(shard) + EventRingArea::header_bytes) +
               std::size_t{epoch & 1u} * area_.places;
    }

    EventRingArea area_;
};

} // namespace cuda_zstd
