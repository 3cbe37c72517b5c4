// SPDX-License-Identifier: MIT
// Compaction beside kernels that allocate and free: list by list, each in its own move.
//
// Invariant: at any moment a slab is where the others expect it, or held by one worker inside one move of one kernel:
// nothing is held across a kernel's end, and whoever wants to prove the heap full meanwhile sees the move. A list is
// first walked where it stands; then one compare-and-swap of its head takes what was walked off, and succeeds only if
// nobody pushed or popped since (the head's counter changes with each of both). So what is off the list for the time of
// a rank, a sort and a push, a few microseconds, is a list that nobody used just then; a list in use is left alone.
//
// A slab that becomes empty while it is held is retired by whoever sees it last, or leaves a notice: settle() and
// published() of SlabShelf, which a pop and a push by an allocation rely on in the same way.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/heap/compact_order.hpp"
#include "cuda_zstd/heap/compaction.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Slabs of one list that one worker orders at once.
inline constexpr std::uint32_t most_ordered_slabs = 512;

/// The upper part of a list. The steps are shared out over the lanes of a warp, or done by one thread; `Segment` is
/// what they share. Between two steps the lanes must be synchronized.
template <class Env>
class ListOrder {
public:
    template <class T>
    using atom = typename Env::template atom<T>;

    struct Segment {
        std::uint64_t head;  ///< as it was when the walk began
        std::uint32_t count; ///< slabs walked
        std::uint32_t below; ///< the link behind the last of them
        std::uint32_t slabs[most_ordered_slabs];
        std::uint16_t ranks[most_ordered_slabs];
    };

    CUDA_ZSTD_HD ListOrder(const SlabSupply<Env>& supply, unsigned size_class, unsigned station)
        : supply_(supply), size_class_(size_class), station_(station) {}

    /// Step 1, by one: walks up to `most` slabs down the list, and changes nothing. Cost: a load for each, one after
    /// the other.
    CUDA_ZSTD_HD void walk(Env& env, Segment& segment, std::uint32_t most) const {
        most = most < most_ordered_slabs ? most : most_ordered_slabs;
        segment.head = env.load(*list().head, Order::acquire);
        segment.below = static_cast<std::uint32_t>(segment.head);
        segment.count = 0;
        // A list that changes under the walk may lead anywhere among the slabs; then take() fails.
        const std::uint32_t pages = supply_.pages.pages_now(env);
        while (segment.below != 0 && segment.below <= pages && segment.count < most) {
            segment.slabs[segment.count++] = segment.below - 1u;
            segment.below = env.load(supply_.next[segment.below - 1u], Order::relaxed);
        }
    }

    /// Whether the slab has credits and comes before the next one of the segment: if all do, taking them would change
    /// nothing. For each slab of a segment that was walked. Changes nothing.
    CUDA_ZSTD_HD bool is_in_place(Env& env, const Segment& segment, std::uint32_t index) const {
        const SlabWord now{env.load(supply_.slabs.words[segment.slabs[index]], Order::relaxed)};
        if (!now.is_slab() || now.credits() <= 0 || now.all_free()) return false;
        if (is_misplaced(env, segment.slabs[index])) return false;
        if (index + 1 == segment.count) return true;
        const SlabWord after{env.load(supply_.slabs.words[segment.slabs[index + 1]], Order::relaxed)};
        return after.is_slab() && after.credits() > 0 && SlabRank::of(now) <= SlabRank::of(after);
    }

    /// Step 2, by one: takes the segment off the list, and begins the move. False, and nothing has changed, if the
    /// list is not what it was.
    CUDA_ZSTD_HD bool take(Env& env, Segment& segment) const {
        supply_.stations.begin_move(env);
        const std::uint64_t counter = (segment.head >> 32) + 1;
        if (env.compare_exchange(*list().head, segment.head, counter << 32 | segment.below, Order::acq_rel))
            return true;
        supply_.stations.end_move(env);
        return false;
    }

    /// Step 3, for each slab of the segment: retires it if it is empty, puts it where far slabs belong if it is one,
    /// else ranks it. Returns the slabs retired.
    CUDA_ZSTD_HD std::uint32_t rank(Env& env, Segment& segment, std::uint32_t index) const {
        const std::uint32_t slab = segment.slabs[index];
        const SlabWord now = supply_.word(env, slab);
        segment.ranks[index] = SlabRank::none;
        if (now.all_free()) {
            supply_.settle(env, slab); // a slab that somebody takes from meanwhile goes back on its home's list
            return 1;
        }
        if (is_misplaced(env, slab)) {
            supply_.settle(env, slab);
            return 0;
        }
        // Without credits for the moment: a slab that others have just emptied or are about to give back to.
        segment.ranks[index] = now.credits() > 0 ? SlabRank::of(now) : static_cast<std::uint16_t>(SlabRank::none - 1);
        return 0;
    }

    // Then the slabs are sorted by rank; those that went away have the last one.

    /// Step 4, for each of the `count` slabs that are left: its link. The last one's is written by the push.
    CUDA_ZSTD_HD void link(Env& env, const Segment& segment, std::uint32_t index, std::uint32_t count) const {
        if (index + 1 < count)
            env.store(supply_.next[segment.slabs[index]], segment.slabs[index + 1] + 1u, Order::relaxed);
    }

    /// Step 5, by one: puts them back on the list.
    CUDA_ZSTD_HD void put_back(Env& env, const Segment& segment, std::uint32_t count) const {
        if (count != 0) list().push_chain(env, segment.slabs[0], segment.slabs[count - 1]);
    }

    /// Step 6, for each of them: see SlabShelf::published.
    CUDA_ZSTD_HD void publish(Env& env, const Segment& segment, std::uint32_t index) const {
        supply_.published(env, segment.slabs[index]);
    }

    /// Step 7, by one: ends the move.
    CUDA_ZSTD_HD void end(Env& env) const { supply_.stations.end_move(env); }

    /// Leaves only the first `count` slabs in a segment that was not taken yet.
    static CUDA_ZSTD_HD void shorten(Segment& segment, std::uint32_t count) {
        if (count >= segment.count) return;
        segment.below = segment.slabs[count] + 1u;
        segment.count = count;
    }

    /// Whether an empty slab lies below a segment that was walked. Changes nothing.
    CUDA_ZSTD_HD bool has_empty_below(Env& env, const Segment& segment) const {
        std::uint32_t link = segment.below;
        const std::uint32_t pages = supply_.pages.pages_now(env);
        for (std::uint32_t steps = 0; link != 0 && link <= pages; ++steps) {
            if (steps == pages) return false;
            if (SlabWord{env.load(supply_.slabs.words[link - 1u], Order::relaxed)}.all_free()) return true;
            link = env.load(supply_.next[link - 1u], Order::relaxed);
        }
        return false;
    }

    /// For a list longer than a segment: retires the empty slabs of all of it; how many. By one. The notice makes the
    /// next who needs an empty slab look here, since one may have become empty while all were off the list.
    CUDA_ZSTD_HD unsigned retire_all(Env& env) const {
        supply_.stations.begin_move(env);
        const unsigned retired = supply_.drain_list(env, list());
        env.fetch_add(*supply_.became_empty, 1u, Order::release);
        supply_.stations.end_move(env);
        return retired;
    }

    /// Retires what is empty in the station's cursor; how many. By one.
    CUDA_ZSTD_HD unsigned drain_cursor(Env& env) const {
        atom<std::uint64_t>& cursor = supply_.cursor_of(size_class_, station_);
        const Cursor seen{env.load(cursor, Order::relaxed)};
        if (seen.raw == 0 || seen.busy()) return 0;
        supply_.stations.begin_move(env);
        const unsigned retired = supply_.drain_cursor(env, cursor);
        supply_.stations.end_move(env);
        return retired;
    }

private:
    CUDA_ZSTD_INLINE bool is_misplaced(Env& env, std::uint32_t slab) const {
        return station_ != supply_.far_station() && supply_.pages.is_far(env, slab);
    }
    CUDA_ZSTD_HD SlabList<Env> list() const { return supply_.list_of(size_class_, station_); }

    const SlabSupply<Env>& supply_;
    unsigned size_class_;
    unsigned station_;
};

/// Whether a list that is in order is left alone.
enum class Effort : unsigned char { where_needed, everywhere };

/// Orders the upper part of one list, by one thread. Returns the slabs that it looked at; `retired` is increased by the
/// empty ones that it retired.
template <class Env>
std::uint32_t order_list(Env& env, const ListOrder<Env>& order, typename ListOrder<Env>::Segment& segment,
                         std::uint32_t most, std::uint32_t& retired, Effort effort = Effort::where_needed) {
    retired += order.drain_cursor(env);
    order.walk(env, segment, most);
    const bool has_empty_below = most == whole_heap && order.has_empty_below(env, segment);
    bool is_in_order = effort == Effort::where_needed && !has_empty_below;
    for (std::uint32_t index = 0; is_in_order && index < segment.count; ++index)
        is_in_order = order.is_in_place(env, segment, index);
    if (segment.count == 0 || is_in_order || !order.take(env, segment)) return segment.count;
    std::uint32_t left = 0;
    for (std::uint32_t index = 0; index < segment.count; ++index) {
        retired += order.rank(env, segment, index);
        const std::uint32_t slab = segment.slabs[index];
        const std::uint16_t rank = segment.ranks[index];
        if (rank == SlabRank::none) continue;
        std::uint32_t at = left++; // insertion: lists are short, or in order from the last time
        for (; at != 0 && segment.ranks[at - 1] > rank; --at) {
            segment.slabs[at] = segment.slabs[at - 1];
            segment.ranks[at] = segment.ranks[at - 1];
        }
        segment.slabs[at] = slab;
        segment.ranks[at] = rank;
    }
    for (std::uint32_t index = 0; index < left; ++index)
        order.link(env, segment, index, left);
    order.put_back(env, segment, left);
    for (std::uint32_t index = 0; index < left; ++index)
        order.publish(env, segment, index);
    order.end(env);
    if (has_empty_below) retired += order.retire_all(env);
    return segment.count;
}

} // namespace cuda_zstd
