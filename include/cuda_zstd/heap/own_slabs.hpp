// SPDX-License-Identifier: MIT
// Slots for groups that fill several pages: the first ones of a processor share its cursor's slab, the others take
// slabs of their own. None waits for another.
//
// Invariant: while a group has all slots of a slab of its own, the slab is in no list and no cursor; what the group
// leaves of it is listed, and goes before new pages.
// A cursor's slab that such a group finds used up, with none to follow it, is set aside: it becomes the next one, with
// none before it. So the groups that come then do not subtract from it, and the first that finds credits there takes it
// up again, as the present one.
//
// take_own_slab() is the way that most of these groups go, and calls no other function: each call would wait for its
// return address, which lies behind the first-level cache after every acquire.
//
// Progress: lock-free.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/heap/page_runs.hpp"

#include <cstdint>

namespace cuda_zstd {

template <class Env>
struct OwnSlabs : PageRuns<Env> {
    using Shelf = SlabShelf<Env>;
    template <class T>
    using atom = typename Env::template atom<T>;
    using Shelf::cursor_of, Shelf::list_of, Shelf::word, Shelf::settle, Shelf::published, Shelf::stations, Shelf::slabs,
        Shelf::pages, Shelf::no_slab;

    /// Whether a group is large: its slots are many pages, or fill at least 7/8 of two pages or of a larger power of
    /// two of them.
    CUDA_ZSTD_INLINE bool fills_a_slab(unsigned size_class, std::uint32_t want) const {
        const std::uint32_t bytes = want * slot_bytes_of(size_class);
        if (bytes <= page_bytes) return false;
        return bytes >= many_pages * page_bytes || bytes / 7u * 8u >= page_bytes << log2_pages_for(bytes);
    }
    static constexpr std::uint32_t many_pages = 8;

    /// Slots of the slab that large groups share, for one that found the cursor as `seen`, with no slots in a present
    /// slab. By what the cursor has (present slab, next one):
    /// - none, none: `lacks_shared` becomes true;
    /// - S, none: S is set aside;
    /// - none, S: where S has credits, slots of S, which is taken up; else `lacks_shared` becomes true if S is smaller
    ///   than the largest slab;
    /// - S, T, or somebody is about to change it: nothing.
    ///
    /// A count of 0: no slots. Cost: a load and up to two atomics.
    CUDA_ZSTD_INLINE SlabGrant take_shared(Env& env, unsigned size_class, std::uint32_t want, Cursor seen,
                                           bool& lacks_shared) const {
        SlabGrant grant{no_slab, 0, 0};
        Cursor left = seen;
        if (seen.current_plus_1() != 0) {
            // Used up: set aside, so that the groups that follow do not subtract from it.
            if (seen.wants_next()) left = Cursor::of(0, seen.current_plus_1());
        } else if (seen.raw == 0) {
            lacks_shared = true;
        } else if (!seen.busy()) {
            const std::uint32_t shared = seen.next_plus_1() - 1u;
            const SlabWord now{env.load(slabs.words[shared], Order::relaxed)};
            lacks_shared = now.credits() <= 0 && now.log2_pages() < this->slab_log2_pages;
            // What lies behind the near pages is to drain.
            if (now.credits() > 0 && !pages.is_far(env, shared)) grant = reserve_in(env, shared, size_class, want);
            if (grant.count != 0) left = Cursor::of(shared + 1u, 0);
        }
        // The slab stays in the cursor, so there is nothing to release.
        std::uint64_t expected = seen.raw;
        if (left.raw != seen.raw)
            (void)env.compare_exchange(cursor_of(size_class, stations.here(env)), expected, left.raw, Order::relaxed);
        return grant;
    }

    /// Slots for a group that fills_a_slab: a new slab at the place that the processor's rover points out. A count of
    /// 0: that place is taken, or there are slabs or pages that go first; then search_own_slab. Cost: four atomics one
    /// after the other.
    CUDA_ZSTD_RARE SlabGrant take_own_slab(PassedEnv<Env> env, unsigned size_class, std::uint32_t want) const {
        const SlabGrant none{no_slab, 0, 0};
        const SlabList<Env> list = list_of(size_class, stations.here(env));
        const std::uint32_t log2_pages = log2_pages_for(want * slot_bytes_of(size_class));
        if (!SlabList<Env>::seems_empty(env.load(*list.head, Order::relaxed)) || log2_pages > this->slab_log2_pages)
            return none;
        // A look first: at a heap with no pages moves would keep others from proving that they are refused.
        const std::uint32_t place = this->free_place_at_rover(env, 1u << log2_pages);
        if (place == no_page) return none;
        stations.begin_move(env);
        if (!pages.claim_at(env, place, 1u << log2_pages)) {
            stations.end_move(env);
            return none;
        }
        return finish(env, list, this->slab_of_pages(env, place, size_class, log2_pages, want));
    }

    /// The same in the general case: of a slab of the list, or of pages from wherever there are some. A count of 0:
    /// there are none.
    CUDA_ZSTD_RARE SlabGrant search_own_slab(PassedEnv<Env> env, unsigned size_class, std::uint32_t want) const {
        const SlabList<Env> list = list_of(size_class, stations.here(env));
        if (list.is_empty(env) && !pages.may_have(env, 1)) return {no_slab, 0, 0};
        stations.begin_move(env);
        const std::uint32_t listed = list.pop(env);
        if (listed == no_slab)
            return finish(env, list, this->make_slab(env, size_class, this->size_for(size_class, want), want));
        const SlabGrant grant = reserve_in(env, listed, size_class, want);
        settle(env, listed);
        stations.end_move(env);
        return grant;
    }

    /// Brings a cursor that lacks a slab for large groups one of the largest size, made of the pages at the rover's
    /// next place for it; a smaller one that was set aside is settled. Meanwhile the cursor is busy. A count of 0: it
    /// did not, since slabs are listed, which go first; or a quarter of the pages is in use, so that what few blocks of
    /// many sizes hold back this way is bounded; or the place is taken, or others were faster.
    CUDA_ZSTD_RARE SlabGrant bring_shared(PassedEnv<Env> env, Cursor seen, unsigned size_class,
                                          std::uint32_t want) const {
        SlabGrant grant{no_slab, 0, 0};
        if (!may_bring_shared(env, size_class, want)) return grant;
        atom<std::uint64_t>& cursor = cursor_of(size_class, stations.here(env));
        if (!this->begin_to_bring(env, cursor, seen)) return grant;
        const std::uint32_t slab = claim_shared(env);
        if (slab == no_page) {
            env.store(cursor, seen.raw, Order::release);
            if (seen.next_plus_1() != 0) published(env, seen.next_plus_1() - 1u);
        } else {
            (void)this->slab_of_pages(env, slab, size_class, this->slab_log2_pages, 0);
            env.store(cursor, Cursor::of(slab + 1u, 0).raw, Order::release);
            grant = reserve_in(env, slab, size_class, want);
            published(env, slab);
            if (seen.next_plus_1() != 0) settle(env, seen.next_plus_1() - 1u);
        }
        stations.end_move(env);
        return grant;
    }

private:
    /// A look before anything is changed: where it fails, it would fail for every group.
    CUDA_ZSTD_RARE bool may_bring_shared(PassedEnv<Env> env, unsigned size_class, std::uint32_t want) const {
        const std::uint32_t count = 1u << this->slab_log2_pages;
        if (count * page_bytes < 2u * want * slot_bytes_of(size_class) || pages.near_now(env) != 0) return false;
        const SlabList<Env> list = list_of(size_class, stations.here(env));
        if (!SlabList<Env>::seems_empty(env.load(*list.head, Order::relaxed))) return false;
        const std::uint32_t pages_now = pages.pages_now(env);
        if (env.load(*pages.free_count, Order::relaxed) <= pages_now / 4u * 3u) return false;
        const auto rovers = this->rovers(env);
        const std::uint32_t place = rovers.place_of(round_up(rovers.now(env), count), pages_now);
        return place + count <= pages_now && pages.seems_free(env, place, count < 32u ? count : 32u);
    }
    /// The pages for it at the rover's next place; no_page where they are taken.
    CUDA_ZSTD_RARE std::uint32_t claim_shared(PassedEnv<Env> env) const {
        const std::uint32_t count = 1u << this->slab_log2_pages;
        const std::uint32_t pages_now = pages.pages_now(env);
        const auto rovers = this->rovers(env);
        const std::uint32_t from = rovers.now(env);
        const std::uint32_t place =
            rovers.place_of(rovers.pass_from(env, from, round_up(from, count), count), pages_now);
        return place + count <= pages_now && pages.claim_at(env, place, count) ? place : no_page;
    }

    CUDA_ZSTD_INLINE SlabGrant reserve_in(Env& env, std::uint32_t slab, unsigned size_class, std::uint32_t want) const {
        std::uint32_t returned = 0;
        const SlabGrant grant = slabs.reserve(env, slab, size_class, want, returned);
        if (returned != 0) this->give_back(env, slab, returned);
        return grant;
    }

    /// Of a slab for slots of so many bytes, one at least.
    static CUDA_ZSTD_INLINE std::uint32_t log2_pages_for(std::uint32_t bytes) {
        return bytes <= page_bytes ? 0u : highest_bit((bytes - 1u) >> page_shift) + 1u;
    }

    /// Ends the move in which a slab was made: what its group leaves of it goes to the list.
    CUDA_ZSTD_INLINE SlabGrant finish(Env& env, const SlabList<Env>& list, const SlabGrant& grant) const {
        if (grant.slab != no_slab && grant.start != 0) {
            list.push(env, grant.slab);
            published(env, grant.slab);
        }
        stations.end_move(env);
        return grant;
    }
};

} // namespace cuda_zstd
