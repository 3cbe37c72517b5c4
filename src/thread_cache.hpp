// SPDX-License-Identifier: MIT
// What a thread has of its own in one manager: magazines, counts, and a lot of sequence numbers.
//
// Invariant: everything here is touched with the lock held, by the owner for a few instructions a call, and by others
// when they collect blocks, sum counts, or close the cache to be alone in the manager. A closed cache neither gives nor
// takes blocks.
#pragma once

#include "coarse_clock.hpp"
#include "magazine.hpp"
#include "owned_lock.hpp"
#include "tally.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace cuda_zstd::detail {

/// What the caches of one manager share.
struct CacheShared {
    /// Most bytes in the magazines of one thread.
    std::size_t most_bytes = 0;
    /// Most blocks of sizes without a place that a thread takes along to the pools at once; 0: each goes by itself, so
    /// that every free block is in sight of every search.
    unsigned most_passing = Magazine::most_passing;
    PublishedBytes published;
    StreamCounts streams;
    alignas(64) std::atomic<std::uint64_t> sequence{0};
};

class alignas(64) ThreadCache {
public:
    ThreadCache(CacheShared& shared, OwnedLock::Owner owner) : lock_(owner), shared_(shared) {}
    ThreadCache(const ThreadCache&) = delete;
    ThreadCache& operator=(const ThreadCache&) = delete;

    /// The thread itself stays (OwnersStay), others lock.
    OwnedLock& lock() noexcept { return lock_; }

    // With the lock held:

    /// A block of the stream for a request, published as live and counted; nothing where there is none.
    [[gnu::always_inline]] Granted allocate(PoolKind kind, std::size_t bytes, std::uint64_t stream_id) noexcept {
        Magazine* magazine = find(stream_id);
        if (magazine == nullptr || closed_) return {};
        const unsigned index = SmallPool::class_of(bytes);
        const auto [record, usable_bytes] =
            kind == PoolKind::small ? magazine->take_slot(index) : magazine->take_block(round_up(bytes, granule_bytes));
        if (record == nullptr) return {};
        const RecordWord word = record->word();
        const Granted granted{record->begin(word, usable_bytes, bytes), next_sequence()};
        set_cached(cached_bytes() - usable_bytes);
        magazine->last_use = ++uses_;
        record->time_ns = coarse_now_ns();
        tally.hit(kind, index, bytes, usable_bytes, shared_.published);
        ++magazine->count.allocations;
        record->publish(word.renewed(BlockRecord::State::live, granted.sequence, kind,
                                     (word.bits & RecordWord::returning_mark) | RecordWord::unticketed_mark));
        return granted;
    }
    /// Frees a live block of the stream into its magazine; false when it is not the caller's, or must go to the pools.
    bool deallocate(BlockRecord& record, const void* ptr, std::uint64_t stream_id) noexcept {
        Magazine* magazine = find(stream_id);
        if (magazine == nullptr || closed_ || magazine->wants_record()) return false;
        const RecordWord word = record.claim(ptr, BlockRecord::State::live);
        if (word.state() != BlockRecord::State::claimed) return false;
        if (put(record, word, *magazine, Known::to_be_asked)) return true;
        record.publish(word.with(BlockRecord::State::live));
        return false;
    }
    /// Whether the magazine is known to have no place for a block's size.
    enum class Known : std::uint8_t { to_be_asked, has_no_place };
    /// Puts a claimed block into a magazine; false where it does not belong or there is no room.
    bool put(BlockRecord& record, RecordWord word, Magazine& magazine, Known known) noexcept {
        const BlockRecord::Extent extent = record.extent(word);
        const std::size_t bytes = cached_bytes() + extent.usable_bytes;
        if (!belongs(record, word, extent.usable_bytes, magazine.stream_id) || bytes > shared_.most_bytes) return false;
        if (!magazine.put(record, extent)) {
            // To ask is to say that the size was seen: once for each free.
            if (magazine.passing() >= shared_.most_passing) return false;
            if (known == Known::to_be_asked && magazine.expects(record, shared_.most_bytes - cached_bytes()))
                return false;
            (void)magazine.pass(record);
        }
        if (!record.since_allocation.empty()) record.since_allocation.clear();
        set_cached(bytes);
        tally.freed(word.kind(), extent.requested_bytes, extent.usable_bytes, shared_.published);
        ++magazine.count.deallocations;
        record.publish(word.with(BlockRecord::State::cached));
        return true;
    }
    /// Whether a block may stay with the stream that frees it.
    bool belongs(const BlockRecord& record, RecordWord word, std::size_t usable_bytes,
                 std::uint64_t stream_id) const noexcept {
        return word.is_returning() && record.stream_id == stream_id && !closed_ &&
               usable_bytes <= shared_.most_bytes / 2 && word.kind() != PoolKind::device &&
               (word.kind() != PoolKind::small || word.is_slot());
    }

    struct Leaving {
        Chain chain;
        std::uint64_t stream_id = 0;
    };
    enum class Room : std::uint8_t {
        /// put() takes the record.
        made,
        /// The same, among those that go to the pools together.
        passes,
        /// Something must leave first: then ask again.
        leaving,
        /// The record must go to the pools.
        refused,
    };
    /// Takes out what keeps put() from taking the record for the stream, whose magazine is made if need be. Another
    /// stream's blocks leave only for one that has been refused 32 times: the other may be gone, and its blocks then
    /// are out of everybody's reach for a while, so streams that come and go must not push each other out. `known` is
    /// kept from one call for a record to the next. May throw std::bad_alloc.
    Room make_room(const BlockRecord& record, std::uint64_t stream_id, Leaving& leaving, Known& known);
    /// Takes out the blocks of one magazine that has any; none when all are empty.
    Leaving take_all() noexcept;
    Leaving take_all(std::uint64_t stream_id) noexcept;
    /// Takes out what is on its way to the pools.
    Leaving pass_on(std::uint64_t stream_id) noexcept;
    Magazine* find(std::uint64_t stream_id) noexcept {
        if (stream_ids_[last_] == stream_id) return magazines_[last_].get();
        for (unsigned i = 0; i < most_magazines; ++i)
            if (stream_ids_[i] == stream_id) return magazines_[last_ = i].get();
        return nullptr;
    }
    std::uint64_t next_sequence() noexcept {
        if (sequence_ == sequence_end_) {
            sequence_ = shared_.sequence.fetch_add(sequence_lot, std::memory_order_relaxed);
            sequence_end_ = sequence_ + sequence_lot;
        }
        return ++sequence_;
    }
    /// Counts what the pools have done for a stream.
    void count(std::uint64_t stream_id, const StreamCount& more) noexcept {
        if (Magazine* magazine = find(stream_id))
            magazine->count.add(more);
        else
            shared_.streams.add(stream_id, more);
    }
    template <class Visit>
    void for_each_stream(const Visit& visit) const {
        for (const auto& magazine : magazines_)
            if (magazine != nullptr) visit(magazine->stream_id, magazine->count);
    }
    void close() noexcept { closed_ = true; }
    void open() noexcept { closed_ = false; }
    /// The thread ends.
    void leave_counts() noexcept;
    /// Drops all magazines: their blocks are no more.
    void forget_blocks() noexcept;
    template <class Visit>
    void for_each(const Visit& visit) const {
        for (const auto& magazine : magazines_)
            if (magazine != nullptr) magazine->for_each(visit);
    }
    Tally tally;

    /// Bytes in the magazines. No lock.
    std::size_t cached_bytes() const noexcept { return cached_bytes_.load(std::memory_order_relaxed); }

private:
    static constexpr std::uint64_t no_stream = ~std::uint64_t{0};
    static constexpr unsigned most_magazines = 32;
    static constexpr std::uint64_t sequence_lot = 64;

    void set_cached(std::size_t bytes) noexcept { cached_bytes_.store(bytes, std::memory_order_relaxed); }
    Leaving take_all(unsigned at) noexcept;
    Magazine* assign(std::uint64_t stream_id);
    void leave_count(Magazine& magazine) noexcept;

    OwnedLock lock_;
    bool closed_ = false;
    unsigned last_ = 0;
    CacheShared& shared_;
    std::atomic<std::size_t> cached_bytes_{0};
    std::uint64_t sequence_ = 0;
    std::uint64_t sequence_end_ = 0;
    std::uint64_t uses_ = 0;
    /// Frees in a row of a stream for which there is no magazine.
    unsigned refused_ = 0;
    std::uint64_t refused_stream_ = no_stream;
    std::array<std::uint64_t, most_magazines> stream_ids_ = filled();
    std::array<std::unique_ptr<Magazine>, most_magazines> magazines_;

    static constexpr std::array<std::uint64_t, most_magazines> filled() noexcept {
        std::array<std::uint64_t, most_magazines> ids{};
        ids.fill(no_stream);
        return ids;
    }
};

} // namespace cuda_zstd::detail
