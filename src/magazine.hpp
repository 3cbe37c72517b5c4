// SPDX-License-Identifier: MIT
// Free blocks that a thread keeps at hand for one stream: those of sizes that come again, and the last few of any other
// size, which go to the pools together.
//
// Invariant: every block here was freed on the magazine's stream after the stream had got it from itself, so the stream
// may have it again with no wait and no event; for anybody else it needs a ticket of the stream first. Its record is in
// the live table, `cached`. Not synchronised: the thread cache guards it.
#pragma once

#include "cuda_zstd/host/live_table.hpp"
#include "cuda_zstd/host/small_pool.hpp"
#include "cuda_zstd/host/stream_order.hpp"
#include "stream_counts.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace cuda_zstd::detail {

/// Records linked by `next`, on their way from one place to another.
struct Chain {
    BlockRecord* head = nullptr;
    std::size_t bytes = 0;
    void push(BlockRecord& record) noexcept {
        record.next = std::exchange(head, &record);
        bytes += record.usable_bytes();
    }
    BlockRecord& pop() noexcept {
        BlockRecord& record = *std::exchange(head, head->next);
        bytes -= record.usable_bytes();
        return record;
    }
};

class Magazine {
public:
    /// Slots of every class of the small pool, so many bytes of each.
    static constexpr unsigned most_classes = 37;
    static constexpr std::size_t class_bytes = std::size_t{256} << 10;
    /// Other blocks by their size: the sizes used lately, so many of each. A size keeps its place while its blocks are
    /// out, and loses it to another that was seen twice, once it was not used for a round of such losses.
    static constexpr unsigned most_sizes = 16;
    static constexpr unsigned most_of_a_size = 8;
    /// Blocks on their way to the pools.
    static constexpr unsigned most_passing = 16;

    Magazine() noexcept {
        for (unsigned i = 0; i < most_classes; ++i) {
            slots_[i].block_bytes = SmallPool::size_of_class(i);
            slots_[i].most = static_cast<unsigned>(std::clamp<std::size_t>(class_bytes / slots_[i].block_bytes, 4, 64));
        }
    }

    std::uint64_t stream_id = 0;
    /// The thread cache's count of uses when this was last one of them.
    std::uint64_t last_use = 0;
    /// Frees in a row that found no room because of other streams' blocks.
    unsigned refused = 0;
    /// Of the thread's calls on the stream.
    StreamCount count;
    /// Stands for blocks that were here and went to the pools: still to be recorded, if somebody wants them.
    TicketRef open;

    bool wants_record() const noexcept { return open != nullptr && open->wanted.load(std::memory_order_relaxed); }

    struct Taken {
        BlockRecord* record = nullptr;
        std::size_t usable_bytes = 0;
    };
    /// Nothing where there is none.
    Taken take_slot(unsigned index) noexcept {
        Bin& bin = slots_[index];
        return take_from(bin, bin.block_bytes);
    }
    Taken take_block(std::size_t bytes) noexcept {
        for (unsigned i = 0; i < most_sizes; ++i)
            if (sizes_[i] == bytes) return take_from(blocks_[i], bytes);
        return passing_count_ == 0 ? Taken{} : take_passing(bytes);
    }

    /// False when there is no room: then make_room() first.
    bool put(BlockRecord& record, const BlockRecord::Extent& extent) noexcept {
        Bin* bin = bin_of(extent);
        if (bin == nullptr || bin->count == bin->most) return false;
        bin->push(record);
        bytes_ += extent.usable_bytes;
        return true;
    }
    /// For a block of a size that has no place: takes it along to the pools with the next ones. False when there are
    /// enough of them: then pass_on() first.
    bool pass(BlockRecord& record) noexcept {
        if (passing_count_ == most_passing) return false;
        passing_bytes_[passing_count_] = record.usable_bytes();
        passing_[passing_count_++] = &record;
        bytes_ += record.usable_bytes();
        return true;
    }
    unsigned passing() const noexcept { return passing_count_; }
    /// Those that are on their way to the pools, the first one freed first.
    Chain pass_on() noexcept {
        Chain leaving;
        while (passing_count_ != 0)
            leaving.push(*passing_[--passing_count_]);
        bytes_ -= leaving.bytes;
        return leaving;
    }
    std::size_t bytes() const noexcept { return bytes_; }
    /// Whether a block of this size may come back before long: a slot, a size that has a place, or one that was seen
    /// lately; or it fits in and no size has had the place. Else it is from now on one that was seen: so ask once for
    /// each free.
    bool expects(const BlockRecord& record, std::size_t room_bytes) noexcept {
        const BlockRecord::Extent extent = record.extent();
        if (bin_of(extent) != nullptr) return true;
        const std::size_t bytes = extent.usable_bytes;
        if (bytes <= room_bytes && sizes_.back() == 0) return true;
        // The middle bits of a product depend on all lower ones.
        std::size_t& seen = seen_[(bytes / granule_bytes * 0x9E3779B97F4A7C15u) >> 40 & (most_seen - 1)];
        return std::exchange(seen, bytes) == bytes;
    }
    /// Takes out what is in a record's way: the older half of its size, or a size that was not used lately.
    Chain make_room(const BlockRecord& record) noexcept;
    Chain take_all() noexcept;

    template <class Visit>
    void for_each(const Visit& visit) const {
        for (const auto* bins : {slots_.data(), blocks_.data()})
            for (unsigned i = 0; i < (bins == slots_.data() ? most_classes : most_sizes); ++i)
                for (const BlockRecord* record = bins[i].head; record != nullptr; record = record->next)
                    visit(*record);
        for (unsigned i = 0; i < passing_count_; ++i)
            visit(*passing_[i]);
    }

private:
    struct Bin {
        BlockRecord* head = nullptr;
        unsigned count = 0;
        unsigned most = most_of_a_size;
        /// Of slots.
        std::size_t block_bytes = 0;
        void push(BlockRecord& record) noexcept {
            record.next = std::exchange(head, &record);
            ++count;
        }
        BlockRecord& pop() noexcept {
            --count;
            return *std::exchange(head, head->next);
        }
    };

    Taken take_from(Bin& bin, std::size_t block_bytes) noexcept {
        if (bin.head == nullptr) return {};
        bytes_ -= block_bytes;
        return {&bin.pop(), block_bytes};
    }
    /// Of a freed block, whose size is in use then.
    Bin* bin_of(const BlockRecord::Extent& extent) noexcept {
        if (extent.slab != nullptr) return &slots_[extent.slab->class_index];
        for (unsigned i = 0; i < most_sizes; ++i)
            if (sizes_[i] == extent.usable_bytes) {
                used_[i] = true;
                return &blocks_[i];
            }
        return nullptr;
    }
    /// The first place from the hand on that was not used since the hand was there; what was used has its chance till
    /// the next round.
    unsigned next_place() noexcept {
        for (;;) {
            const unsigned at = hand_;
            hand_ = (hand_ + 1) % most_sizes;
            if (!std::exchange(used_[at], false)) return at;
        }
    }
    /// The one that was freed last.
    Taken take_passing(std::size_t bytes) noexcept {
        for (unsigned i = passing_count_; i-- != 0;)
            if (passing_bytes_[i] == bytes) {
                BlockRecord* record = passing_[i];
                --passing_count_;
                for (; i < passing_count_; ++i) {
                    passing_[i] = passing_[i + 1];
                    passing_bytes_[i] = passing_bytes_[i + 1];
                }
                bytes_ -= bytes;
                return {record, bytes};
            }
        return {};
    }
    static constexpr std::size_t most_seen = 32;
    std::array<Bin, most_classes> slots_;
    /// 0: no size has had the place. They are given away in order.
    std::array<std::size_t, most_sizes> sizes_{};
    std::array<Bin, most_sizes> blocks_;
    /// Sizes that were freed since the hand was there.
    std::array<bool, most_sizes> used_{};
    std::array<BlockRecord*, most_passing> passing_;
    std::array<std::size_t, most_passing> passing_bytes_;
    unsigned passing_count_ = 0;
    /// Sizes of blocks that found no place, by a hash.
    std::array<std::size_t, most_seen> seen_{};
    std::size_t bytes_ = 0;
    unsigned hand_ = 0;
};

} // namespace cuda_zstd::detail
