// SPDX-License-Identifier: MIT
// The common path of an allocation: slots for lanes of one warp that want the same size class.
//
// Invariant: a group reserves from its processor's cursor by one atomic of its first lane, and marks its slots as taken
// by one atomic for each word of bits, at most two, both at once. What is rare is called through a pointer
// (out_of_line), and may wait for who brings a slab.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/heap/supply.hpp"

#include <cstdint>

namespace cuda_zstd {

template <class Env>
struct SlotGroups {
    using Supply = SlabSupply<Env>;

    const Supply* supply; ///< in the arena
    SlabMap<Env> slabs;
    Stations stations;

    /// What a lane got so far: a slot, or why there is none, or neither, so that it asks (again).
    struct Taken {
        std::uint32_t slab;
        std::uint32_t slot; ///< from `none` on there is none: a Status is behind that, `ok` of who asks

        static constexpr std::uint32_t none = 0xffffff00u;

        CUDA_ZSTD_INLINE bool has_slot() const { return slot < none; }
        CUDA_ZSTD_INLINE bool asks() const { return slot == none; }
        CUDA_ZSTD_INLINE void refuse(Status why) { slot = none + static_cast<std::uint32_t>(why); }
        /// Not of who asks.
        CUDA_ZSTD_INLINE Status status() const { return has_slot() ? Status::ok : static_cast<Status>(slot - none); }
    };
    static_assert(static_cast<std::uint32_t>(Status::ok) == 0);

    /// A turn of the lanes `lanes`, which call together. Those that ask are in `group` with all that ask for the same
    /// class; of the others, `group` holds the own bit and none that asks, and they get nothing. Who asked asks again
    /// when its group got fewer slots than it has lanes. What one lane acquired holds for all.
    CUDA_ZSTD_INLINE Taken turn(Env& env, LaneMask lanes, LaneMask group, unsigned size_class, bool asks) const {
        return turn_by(env, lanes, group, asks, [&](std::uint32_t want) { return reserve(env, size_class, want); });
    }
    /// Further turns until nobody asks.
    static CUDA_ZSTD_RARE Taken go_on(const Supply* supply, PassedEnv<Env> env, LaneMask lanes, LaneMask group,
                                      unsigned size_class, Taken taken) {
        const auto reserve = [&](std::uint32_t want) {
            return out_of_line(&SlotGroups::reserve_again)(supply, env, size_class, want);
        };
        for (LaneMask left = env.ballot(lanes, taken.asks()); left != 0; left = env.ballot(lanes, taken.asks())) {
            const SlotGroups groups{supply, supply->slabs, supply->stations};
            const bool asks = taken.asks();
            group = asks ? group & left : 1u << env.lane();
            const Taken now = groups.turn_by(env, lanes, group, asks, reserve);
            if (asks) taken = now;
        }
        return taken;
    }

private:
    struct Reserved;

    template <class Reserve>
    CUDA_ZSTD_INLINE Taken turn_by(Env& env, LaneMask lanes, LaneMask group, bool asks, const Reserve& reserve) const {
        const unsigned leader = lowest_bit(group);
        Reserved got;
        if (asks && env.lane() == leader) got = reserve(popcount(group));
        got.raw = env.shfl(lanes, got.raw, leader);
        const unsigned rank = popcount(group & env.lanes_before());
        // The bits lie in one word or in two that are neighbors: the group's first lanes set them, a word each.
        const std::uint32_t slot = got.start() + rank;
        std::uint32_t seen = 0;
        if (rank < got.words()) seen = set_bits(env, got, rank);
        seen = env.shfl(lanes, seen, rank < 32u - got.start() % 32u ? leader : lowest_bit(group & (group - 1u)));
        env.sync(lanes); // a shuffle orders no memory: what these lanes acquired holds for all from here
        Taken taken{got.slab(), Taken::none};
        if (rank < got.count()) {
            taken.slot = slot;
            if ((seen >> (slot % 32u) & 1u) != 0) {
                taken.slot = out_of_line(&Supply::find_slot_rarely)(supply, env, got.slab(), got.start(), rank);
                if (taken.slot == no_slot) taken.refuse(Status::contended);
            }
        } else if (asks && got.count() == 0) {
            taken.refuse(static_cast<Status>(got.start()));
        }
        return taken;
    }

    /// What a group's first lane got: SlabGrant in 64 bits.
    struct Reserved {
        std::uint64_t raw = 0;

        CUDA_ZSTD_INLINE std::uint32_t slab() const { return static_cast<std::uint32_t>(raw >> 32); }
        CUDA_ZSTD_INLINE std::uint32_t start() const { return static_cast<std::uint32_t>(raw) >> 8; }
        CUDA_ZSTD_INLINE std::uint32_t count() const { return static_cast<std::uint32_t>(raw) & 0xffu; }
        /// Words of bits that the slots lie in: at most two, since a group has at most 32 lanes.
        CUDA_ZSTD_INLINE std::uint32_t words() const {
            return count() == 0 ? 0 : (start() % 32u + count() + 31u) / 32u;
        }
    };

    /// Up to `want` slots of the class, from this processor's cursor, else from wherever there are any. A count of 0
    /// comes with the reason as the start.
    CUDA_ZSTD_INLINE Reserved reserve(Env& env, unsigned size_class, std::uint32_t want) const {
        const Cursor cursor{
            env.load(*stations.template cell<Env>(size_class, stations.here(env), Stations::cursor), Order::relaxed)};
        SlabGrant grant{cursor.current_plus_1() - 1u, 0, 0};
        SlabWord old{0};
        if (cursor.current_plus_1() != 0) {
            old = slabs.subtract(env, grant.slab, want);
            grant = SlabMap<Env>::granted(old, grant.slab, size_class, want);
        }
        if (grant.count != want || (cursor.wants_next() && old.passes_half(want)))
            grant = out_of_line(&Supply::reserve_rarely)(supply, env, size_class, want, cursor.raw, old.raw);
        return {std::uint64_t{grant.slab} << 32 | grant.start << 8 | grant.count};
    }

    static CUDA_ZSTD_RARE Reserved reserve_again(const Supply* supply, PassedEnv<Env> env, unsigned size_class,
                                                 std::uint32_t want) {
        return SlotGroups{supply, supply->slabs, supply->stations}.reserve(env, size_class, want);
    }

    /// Marks those of the slots as taken that lie in one word of bits: of the word with the first (0) or the next one
    /// (1). Returns the word as it was.
    CUDA_ZSTD_INLINE std::uint32_t set_bits(Env& env, const Reserved& got, std::uint32_t word) const {
        const unsigned first = got.start() % 32u;
        const std::uint32_t all = ~0u >> (32u - got.count());
        const std::uint32_t mask = word == 0 ? all << first : all >> (32u - first);
        return env.fetch_or(slabs.slot_bits[slabs.bit_word(got.slab(), got.start()) + word], mask, Order::acquire);
    }
};

} // namespace cuda_zstd
