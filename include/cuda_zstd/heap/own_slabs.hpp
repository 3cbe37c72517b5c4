// SPDX-License-Identifier: MIT
// Slabs for one group: a group whose slots fill several pages takes a slab of its own, and waits for nobody.
//
// Invariant: such a slab is in no cursor. While its group has all of its slots it is in no list either; what the group
// leaves of it lies in the processor's list, and goes before new pages.
//
// The way that most of these groups go is one function that calls none: each call of another would wait for its return
// address, which lies behind the first-level cache after every acquire.
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
    using Shelf::list_of, Shelf::word, Shelf::settle, Shelf::published, Shelf::stations, Shelf::slabs, Shelf::pages,
        Shelf::no_slab;

    /// Whether a group's slots had better be a slab of their own: they fill one of two pages or more nearly, or are
    /// many pages.
    CUDA_ZSTD_INLINE bool fills_a_slab(unsigned size_class, std::uint32_t want) const {
        const std::uint32_t bytes = want * slot_bytes_of(size_class);
        if (bytes <= page_bytes) return false;
        return bytes >= many_pages * page_bytes || bytes / 7u * 8u >= page_bytes << log2_pages_for(bytes);
    }
    static constexpr std::uint32_t many_pages = 8;

    /// Slots for a group that fills_a_slab: a new slab at the place that the processor's rover points out. A count of
    /// 0: that place is taken, or there are slabs or pages that go first; then search_own_slab. Cost: four atomics one
    /// after the other.
    CUDA_ZSTD_RARE SlabGrant take_own_slab(PassedEnv<Env> env, unsigned size_class, std::uint32_t want) const {
        const SlabGrant none{no_slab, 0, 0};
        const SlabList<Env> list = list_of(size_class, stations.here(env));
        const std::uint32_t log2_pages = log2_pages_for(want * slot_bytes_of(size_class));
        if (!SlabList<Env>::seems_empty(env.load(*list.head, Order::relaxed)) || log2_pages > this->slab_log2_pages)
            return none;
        const std::uint32_t place = this->place_at_rover(env, 1u << log2_pages);
        // A look first: at a heap with no pages moves would keep others from proving that they are refused.
        if (place == no_page || !pages.seems_free(env, place, 1u << log2_pages)) return none;
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
        std::uint32_t returned = 0;
        const SlabGrant grant = slabs.reserve(env, listed, size_class, want, returned);
        if (returned != 0) this->give_back(env, listed, returned);
        settle(env, listed);
        stations.end_move(env);
        return grant;
    }

private:
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
