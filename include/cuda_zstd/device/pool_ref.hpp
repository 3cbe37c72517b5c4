// SPDX-License-Identifier: MIT
// The handle of a device pool that goes by value into kernels.
//
// Invariant: a view of one heap, trivially copyable; it stays valid for as long as the DevicePool that gave it.
// Templated on the environment, so that one source of a kernel's algorithm runs on both backends; kernels of CUDA alone
// use DevicePoolRef (cuda_zstd_device_pool.cuh), which names the environment for them.
//
// Units: sizes and alignments are bytes. Any lanes of a warp may call together, each with arguments of its own; only
// the forms for a group want the same arguments in all its lanes. Costs are those of the common case; a round trip is
// one access to the L2 cache that the next one has to wait for.
//
// Progress: no call waits for a warp that has not started. Calls of one size class on one processor may wait while one
// of them brings a slab for all; that wait is bounded, and then ends in null with `contended`. At a full heap null
// comes after one look at every place that may hold a slot, and is counted. A free never waits for another warp. The
// forms for a group wait for the lanes of their group, and for nobody else.
//
// `place` is where the call is made, known in hardened builds; it is never given by hand.
//
// Ordering: what a thread did to a block before it freed it is visible to whoever gets the bytes next. A block written
// by one lane and read by another needs the usual synchronization between the two.
#pragma once

#include "cuda_zstd/core/call_place.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/device/pool_heap.hpp"
#include "cuda_zstd/env/whole_warp.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// What a request for several blocks does when there are fewer.
enum class Shortfall : unsigned char {
    keep,     ///< keeps those that there were
    give_back ///< keeps none: all or nothing
};

/// `PoolsHeap` is what calls go to: the pool's heap, or a wrapper around it (TracedHeap).
template <class Env, class PoolsHeap = PoolHeap<Env>>
class BasicPoolRef {
public:
    BasicPoolRef() = default;
    explicit CUDA_ZSTD_HD BasicPoolRef(const PoolsHeap& heap) : heap_(heap) {}

    /// One block of at least `bytes` for the calling lane, aligned to 16 B; null when no slot or run for the size
    /// exists, for 0 bytes, and for more than the heap has. From 1 byte to the whole heap.
    /// Cost: three round trips: a load (the cursor), one atomic for all lanes that want one size class, and one for
    /// each 32 slots that they get. Above 32 KiB: an atomic for each 32 pages and one for the pages' entry, a lane.
    CUDA_ZSTD_HD void* allocate(Env& env, std::size_t bytes, CallPlace place = CallPlace::here()) const {
        return allocate(env, bytes, min_slot_bytes, place);
    }
    /// The same, aligned to a power of two of at most 64 KiB; null for another alignment. A block aligned to more than
    /// 32 KiB takes whole pages.
    CUDA_ZSTD_HD void* allocate(Env& env, std::size_t bytes, std::uint32_t alignment,
                                CallPlace place = CallPlace::here()) const {
        Status status;
        return try_allocate(env, bytes, alignment, status, place);
    }
    /// The same; `status` says why a null came: `full`, `contended` (a bounded wait ran out: try again) or `invalid`
    /// (0 bytes, more than the heap, a bad alignment: no later call can succeed). Each null counts as a failure in the
    /// report, and the size of the first is kept there.
    CUDA_ZSTD_HD void* try_allocate(Env& env, std::size_t bytes, std::uint32_t alignment, Status& status,
                                    CallPlace place = CallPlace::here()) const {
        return take(env, env.converged(), bytes, alignment, status, place);
    }

    /// Gives a block back, from any lane, warp, block, later kernel or other stream. Null has no effect; a pointer
    /// that is no live block changes nothing and is counted. Cost: three round trips: a load a lane, one atomic for all
    /// slots in one word of bits, one for all of one slab. Releases what the lane did to the block.
    CUDA_ZSTD_HD void deallocate(Env& env, void* block, CallPlace place = CallPlace::here()) const {
        try_deallocate(env, block, place);
    }
    /// The same; says what was wrong with the pointer: `foreign`, `interior` or `double_free`.
    CUDA_ZSTD_HD Status try_deallocate(Env& env, void* block, CallPlace place = CallPlace::here()) const {
        return give(env, env.converged(), block, place);
    }

    /// One block for all of the lanes `lanes` (bits of one warp), which call together with the same arguments: every
    /// one receives the same pointer and status, and may use it at once. Cost: that of one lane's allocation, a shuffle
    /// and a synchronization of the lanes.
    CUDA_ZSTD_HD void* try_allocate_group(Env& env, LaneMask lanes, std::size_t bytes, std::uint32_t alignment,
                                          Status& status, CallPlace place = CallPlace::here()) const {
        const unsigned leader = lowest_bit(lanes);
        std::uint64_t block = 0;
        auto outcome = static_cast<std::uint32_t>(Status::ok);
        if (env.lane() == leader) {
            // The leaders of several groups of the warp share the atomics where they come together.
            block = reinterpret_cast<std::uint64_t>(take(env, env.converged(), bytes, alignment, status, place));
            outcome = static_cast<std::uint32_t>(status);
        }
        block = env.shfl(lanes, block, leader);
        status = static_cast<Status>(env.shfl(lanes, outcome, leader));
        env.sync(lanes); // what the leader acquired holds for all from here
        return reinterpret_cast<void*>(block);
    }
    CUDA_ZSTD_HD void* allocate_group(Env& env, LaneMask lanes, std::size_t bytes,
                                      std::uint32_t alignment = min_slot_bytes,
                                      CallPlace place = CallPlace::here()) const {
        Status status;
        return try_allocate_group(env, lanes, bytes, alignment, status, place);
    }
    /// Gives back one block of all of the lanes, which call together with the same pointer; what any of them did to the
    /// block before is released with it. Every lane receives the status.
    CUDA_ZSTD_HD Status deallocate_group(Env& env, LaneMask lanes, void* block,
                                         CallPlace place = CallPlace::here()) const {
        env.sync(lanes); // the other lanes' accesses come before the leader's free
        const unsigned leader = lowest_bit(lanes);
        auto outcome = static_cast<std::uint32_t>(Status::ok);
        if (env.lane() == leader) outcome = static_cast<std::uint32_t>(give(env, env.converged(), block, place));
        return static_cast<Status>(env.shfl(lanes, outcome, leader));
    }
    /// The group forms for every lane of a warp.
    CUDA_ZSTD_HD void* allocate_warp(Env& env, std::size_t bytes, CallPlace place = CallPlace::here()) const {
        return allocate_group(env, whole_warp<Env>, bytes, min_slot_bytes, place);
    }
    /// Without a status: the other lanes need not wait for the first one's free.
    CUDA_ZSTD_HD void deallocate_warp(Env& env, void* block, CallPlace place = CallPlace::here()) const {
        env.sync(whole_warp<Env>);
        if (env.lane() == 0) give(env, 1u, block, place);
    }

    /// `count` blocks of one size for the lanes `lanes`, which call together with the same arguments; `count` may be
    /// more than there are lanes. Returns how many there were: `blocks[0]` to there are theirs, in no particular order,
    /// the rest of the `count` entries are null, and `status` says why it was fewer (else `ok`). With
    /// Shortfall::give_back fewer than `count` are freed again before the return, and every entry is null; the return
    /// value then still says how many there were. Every lane receives the same values, and may read `blocks` and use
    /// any of the blocks at once. Cost: an allocation of the whole group for every popcount(lanes) blocks: with a whole
    /// warp one atomic on the size class serves 32. Of the requests after the first that failed none is made.
    CUDA_ZSTD_HD std::uint32_t allocate_many(Env& env, LaneMask lanes, std::size_t bytes, std::uint32_t alignment,
                                             std::uint32_t count, void** blocks, Shortfall shortfall, Status& status,
                                             CallPlace place = CallPlace::here()) const {
        const LaneMask before = lanes & env.lanes_before();
        std::uint32_t taken = 0;
        status = Status::ok;
        while (taken < count && status == Status::ok) {
            const bool asks = popcount(before) < count - taken;
            const LaneMask asking = env.ballot(lanes, asks);
            Status mine = Status::ok;
            void* block = nullptr;
            if (asks) block = take(env, asking, bytes, alignment, mine, place);
            const LaneMask served = env.ballot(lanes, block != nullptr);
            if (block != nullptr) blocks[taken + popcount(served & before)] = block;
            taken += popcount(served);
            if (served != asking)
                status = static_cast<Status>(
                    env.shfl(lanes, static_cast<std::uint32_t>(mine), lowest_bit(asking & ~served)));
        }
        for (std::uint32_t rest = taken + popcount(before); rest < count; rest += popcount(lanes))
            blocks[rest] = nullptr;
        env.sync(lanes);
        if (taken < count && shortfall == Shortfall::give_back) {
            deallocate_many(env, lanes, taken, blocks, place);
            for (std::uint32_t at = popcount(before); at < taken; at += popcount(lanes))
                blocks[at] = nullptr;
            env.sync(lanes);
        }
        return taken;
    }
    /// Gives back `count` blocks, nulls among them, by the lanes `lanes`, which call together with the same arguments
    /// and have done their last access to any of them. Returns how many pointers were no live blocks (counted, and
    /// without effect). Cost: a free of the whole group for every popcount(lanes) blocks.
    CUDA_ZSTD_HD std::uint32_t deallocate_many(Env& env, LaneMask lanes, std::uint32_t count, void* const* blocks,
                                               CallPlace place = CallPlace::here()) const {
        const std::uint32_t rank = popcount(lanes & env.lanes_before());
        std::uint32_t refused = 0;
        env.sync(lanes); // each lane's accesses come before any lane's free
        for (std::uint32_t first = 0; first < count; first += popcount(lanes)) {
            void* const block = rank < count - first ? blocks[first + rank] : nullptr;
            const Status status = give(env, lanes, block, place);
            refused += popcount(env.ballot(lanes, status != Status::ok));
        }
        return refused;
    }

    /// Bytes that may be used at a live block, at least what was asked for; 0 when no block of this heap can begin
    /// there. Whether the block is live is not looked at. Cost: one load. Orders nothing, waits for nothing.
    CUDA_ZSTD_HD std::size_t usable_size(Env& env, const void* block) const { return heap_.usable_size(env, block); }
    /// Whether the address lies in this heap, in a block or not. Cost: no access to memory.
    CUDA_ZSTD_HD bool owns(const void* address) const { return heap_.owns(address); }

    CUDA_ZSTD_INLINE const PoolsHeap& heap() const { return heap_; }

private:
    CUDA_ZSTD_INLINE void* take(Env& env, LaneMask lanes, std::size_t bytes, std::uint32_t alignment, Status& status,
                                [[maybe_unused]] const CallPlace& place) const {
        if constexpr (Hardening::any)
            return heap_.allocate(env, lanes, bytes, alignment, status, place);
        else
            return heap_.allocate(env, lanes, bytes, alignment, status);
    }
    CUDA_ZSTD_INLINE Status give(Env& env, LaneMask lanes, void* block, [[maybe_unused]] const CallPlace& place) const {
        if constexpr (Hardening::any)
            return heap_.deallocate(env, lanes, block, place);
        else
            return heap_.deallocate(env, lanes, block);
    }

    PoolsHeap heap_;
};

} // namespace cuda_zstd
