// SPDX-License-Identifier: MIT
// A vector that any lanes of any warps append to while kernels run: the handle that goes into them.
//
// Invariant: element i lies in segment k = floor(log2(i / first + 1)), where segment k holds first * 2^k elements, so
// an index finds its element without a search. A segment is there only if all before it are, and its place in the
// directory changes once: from none to claimed to its address, or to `failed`, for good. So the elements that have
// memory are a prefix, [0, size), whatever failed; no element of it ever moves.
//
// An append reserves its indices by one addition, which is never taken back. When the pool has no memory for a segment,
// the vector is closed there: this append and all that reserve later are refused as far as they lie behind, at once and
// even if memory was freed since, and nothing that was appended is lost. `reopen`, called at rest, opens it again.
//
// Order: the elements of one call of one lane are adjacent. The lanes of a warp that call together get their indices in
// the order of the lanes; of two appends of which one happens before the other, the first gets the lower indices; no
// other order is promised.
//
// Progress: the first to reach a segment claims it and brings it; others that need it look at its place a limited
// number of times and then bring one themselves (whoever is later frees his), so no call waits for a warp that has not
// started, nor without end for one that has.
//
// Ordering: an append releases nothing. Read elements in a later kernel, or after the usual synchronization with the
// lane that appended them.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/device/pool_ref.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace cuda_zstd {

/// Places in a vector's directory: the last segment alone would hold half of 2^32 first segments.
inline constexpr unsigned pool_vector_segments = 32;

/// Which elements a segment holds, and what its place in the directory says.
struct PoolVectorDirectory {
    std::uint32_t first_count; ///< a power of two

    /// Where the elements of segment `k`, at most pool_vector_segments, begin.
    CUDA_ZSTD_INLINE std::uint64_t start_of(unsigned k) const { return ((std::uint64_t{1} << k) - 1) * first_count; }
    /// The segment of an element; pool_vector_segments or more for an index that no vector has.
    CUDA_ZSTD_INLINE unsigned segment_of(std::uint64_t index) const {
        const std::uint64_t quotient = index / first_count + 1;
        return quotient >> 32 != 0 ? 32 + highest_bit(static_cast<std::uint32_t>(quotient >> 32))
                                   : highest_bit(static_cast<std::uint32_t>(quotient));
    }
    /// Values of a place; every other is an address.
    static constexpr std::uint64_t none = 0;
    static constexpr std::uint64_t claimed = 1;
    static constexpr std::uint64_t failed = 2;
};

/// Elements of a vector's first segment: `FirstCount`, a power of two, or where that is 0 about 4 KiB of them.
template <class T, std::uint32_t FirstCount>
inline constexpr std::uint32_t pool_vector_first_count =
    FirstCount != 0 ? FirstCount : (sizeof(T) >= 4096 ? 1u : std::bit_floor(4096u / std::uint32_t{sizeof(T)}));

/// The vector itself, in memory that kernels reach. All zero but for the heap: empty.
template <class Env>
struct PoolVectorState {
    template <class T>
    using atom = typename Env::template atom<T>;

    /// Indices given out, refused ones among them. On a line of its own, since every append writes it.
    alignas(128) atom<std::uint64_t> reserved;
    /// 0: open; else 1 + the first index that has no memory.
    alignas(128) atom<std::uint64_t> closed;
    /// Refused indices that an earlier reopen has taken back.
    atom<std::uint64_t> refused_before;
    atom<std::uint64_t> segments[pool_vector_segments];
    // The heap that segments come from.
    void* arena;
    HeapLayout layout;
};

/// Adjacent indices of a vector.
struct PoolVectorRange {
    std::uint64_t first = 0;
    std::uint32_t count = 0;
};

template <class T, class Env, std::uint32_t FirstCount = 0>
class BasicPoolVectorRef {
public:
    static_assert(std::is_trivially_copyable_v<T>, "elements are copied as bytes, by the host too");
    static_assert(alignof(T) <= page_bytes);
    using State = PoolVectorState<Env>;
    using Directory = PoolVectorDirectory;

    static constexpr std::uint32_t first_count = pool_vector_first_count<T, FirstCount>;
    static_assert(is_power_of_two(first_count));
    /// Looks at a segment that somebody else brings, before the caller brings one itself.
    static constexpr unsigned most_looks = 4096;
    /// Requests for a segment's memory that end in `contended`, before it counts as failed.
    static constexpr unsigned most_requests = 8;

    BasicPoolVectorRef() = default;
    explicit CUDA_ZSTD_HD BasicPoolVectorRef(State* state) : state_(state) {}

    /// Appends one element for the calling lane; false, with the vector closed, when there is no memory. Cost: one
    /// atomic for all lanes that come together, a load, and the store.
    CUDA_ZSTD_HD bool push_back(Env& env, const T& value) const {
        const LaneMask lanes = env.converged();
        const std::uint64_t index = add(env, lanes, popcount(lanes)) + popcount(lanes & env.lanes_before());
        if (secure(env, lanes, index, 1) == 0) return false;
        *element(env, index) = value;
        return true;
    }

    /// Reserves `count` adjacent indices for the calling lane, each lane its own count; returns those that have memory,
    /// which are the first ones: fewer than `count` only when the vector is closed. The caller writes every element
    /// (`at`). Cost: one atomic for all lanes that come together, a shuffle for each of them, and a load.
    CUDA_ZSTD_HD PoolVectorRange reserve(Env& env, std::uint32_t count) const {
        const LaneMask lanes = env.converged();
        std::uint64_t before = 0;
        std::uint64_t total = 0;
        for (LaneMask left = lanes; left != 0; left &= left - 1) {
            const unsigned other = lowest_bit(left);
            if (other == env.lane()) before = total;
            total += env.shfl(lanes, count, other);
        }
        const std::uint64_t first = add(env, lanes, total) + before;
        return {first, secure(env, lanes, first, count)};
    }

    /// Appends `count` elements; returns how many of them were: fewer only when the vector is closed. Cost: reserve's,
    /// and the copy, element by element.
    CUDA_ZSTD_HD std::uint32_t append(Env& env, const T* values, std::uint32_t count) const {
        const PoolVectorRange range = reserve(env, count);
        for (std::uint32_t i = 0; i < range.count; ++i)
            *element(env, range.first + i) = values[i];
        return range.count;
    }

    /// Elements that have memory. Exact at rest, and then every one of them was appended; while others append, it may
    /// be behind. Cost: two loads, and one for each segment that is missing.
    CUDA_ZSTD_HD std::uint64_t size(Env& env) const {
        const std::uint64_t reserved = env.load(state_->reserved, Order::relaxed);
        unsigned end = reserved == 0 ? 0 : segment_of(reserved - 1) + 1; // segments that so many elements need
        if (end > pool_vector_segments) end = pool_vector_segments;
        while (end != 0 && env.load(state_->segments[end - 1], Order::acquire) <= Directory::failed)
            --end;
        return reserved < start_of(end) ? reserved : start_of(end);
    }
    /// Elements that were refused for want of memory since the vector was made or cleared. Exact at rest.
    CUDA_ZSTD_HD std::uint64_t refused(Env& env) const {
        return env.load(state_->refused_before, Order::relaxed) + env.load(state_->reserved, Order::relaxed) -
               size(env);
    }
    /// The element, or null where there is no memory for it; every index below size() has some. Cost: one load.
    CUDA_ZSTD_HD T* at(Env& env, std::uint64_t index) const {
        const unsigned k = segment_of(index);
        if (k >= pool_vector_segments) return nullptr;
        const std::uint64_t segment = env.load(state_->segments[k], Order::acquire);
        return segment <= Directory::failed ? nullptr : reinterpret_cast<T*>(segment) + (index - start_of(k));
    }

    /// One lane, while nobody else uses the vector: frees all segments; the vector is empty and open.
    CUDA_ZSTD_HD void clear(Env& env) const {
        const BasicPoolRef<Env> pool = pool_of(state_);
        for (unsigned k = 0; k < pool_vector_segments; ++k) {
            const std::uint64_t segment = env.load(state_->segments[k], Order::relaxed);
            if (segment > Directory::failed) pool.deallocate(env, reinterpret_cast<void*>(segment));
            env.store(state_->segments[k], Directory::none, Order::relaxed);
        }
        env.store(state_->reserved, std::uint64_t{0}, Order::relaxed);
        env.store(state_->refused_before, std::uint64_t{0}, Order::relaxed);
        env.store(state_->closed, std::uint64_t{0}, Order::relaxed);
    }
    /// One lane, while nobody else uses the vector: opens a closed one again, behind the elements that it has.
    CUDA_ZSTD_HD void reopen(Env& env) const {
        const std::uint64_t kept = size(env);
        const std::uint64_t refused_now = env.load(state_->reserved, Order::relaxed) - kept;
        env.fetch_add(state_->refused_before, refused_now, Order::relaxed);
        env.store(state_->reserved, kept, Order::relaxed);
        for (unsigned k = 0; k < pool_vector_segments; ++k)
            if (env.load(state_->segments[k], Order::relaxed) == Directory::failed)
                env.store(state_->segments[k], Directory::none, Order::relaxed);
        env.store(state_->closed, std::uint64_t{0}, Order::relaxed);
    }

    CUDA_ZSTD_INLINE State* state() const { return state_; }

private:
    static CUDA_ZSTD_INLINE std::uint64_t start_of(unsigned k) { return Directory{first_count}.start_of(k); }
    static CUDA_ZSTD_INLINE unsigned segment_of(std::uint64_t index) {
        return Directory{first_count}.segment_of(index);
    }
    static CUDA_ZSTD_INLINE BasicPoolRef<Env> pool_of(const State* state) {
        return BasicPoolRef<Env>(PoolHeap<Env>::over(state->arena, state->layout));
    }

    /// Adds what all lanes want; every one receives the first index.
    CUDA_ZSTD_INLINE std::uint64_t add(Env& env, LaneMask lanes, std::uint64_t total) const {
        const unsigned leader = lowest_bit(lanes);
        std::uint64_t first = 0;
        if (env.lane() == leader && total != 0) first = env.fetch_add(state_->reserved, total, Order::relaxed);
        return env.shfl(lanes, first, leader);
    }
    CUDA_ZSTD_INLINE T* element(Env& env, std::uint64_t index) const {
        const unsigned k = segment_of(index);
        // The acquire was in `secure`.
        return reinterpret_cast<T*>(env.load(state_->segments[k], Order::relaxed)) + (index - start_of(k));
    }

    /// Sees to it that the lane's indices have memory; returns how many have. The lanes call together.
    CUDA_ZSTD_INLINE std::uint32_t secure(Env& env, LaneMask lanes, std::uint64_t first, std::uint32_t count) const {
        const unsigned k = count == 0 ? 0 : segment_of(first + count - 1);
        const bool there = count == 0 || (k < pool_vector_segments &&
                                          env.load(state_->segments[k], Order::acquire) > Directory::failed);
        const LaneMask waiting = env.ballot(lanes, !there);
        if (waiting == 0) return count;
        // Indices rise with the lanes, so the last one needs the most; the first one brings it all.
        const unsigned last = highest_bit(waiting);
        const unsigned leader = lowest_bit(waiting);
        const unsigned most = env.shfl(lanes, k, last);
        std::uint64_t end = 0;
        if (env.lane() == leader) end = grow(env, state_, most);
        end = env.shfl(lanes, end, leader);
        env.sync(lanes); // what the leader acquired holds for all from here
        if (there || first + count <= end) return count;
        return end <= first ? 0 : static_cast<std::uint32_t>(end - first);
    }

    /// Brings the segments up to `most` that are not there yet, lowest first; returns how many elements there is memory
    /// for, at least.
    static CUDA_ZSTD_RARE std::uint64_t grow(Env& env, State* state, unsigned most) {
        // Acquired, since whoever closed the vector has seen all segments before.
        if (const std::uint64_t closed = env.load(state->closed, Order::acquire); closed != 0) return closed - 1;
        if (most >= pool_vector_segments) most = pool_vector_segments - 1;
        unsigned k = most;
        while (k != 0 && env.load(state->segments[k - 1], Order::acquire) <= Directory::failed)
            --k;
        for (; k <= most; ++k) {
            if (bring(env, state, k) == Directory::failed) {
                env.store(state->closed, start_of(k) + 1, Order::release);
                return start_of(k);
            }
        }
        return start_of(k);
    }

    /// What is in place `k` when it is decided: the address of a segment, or `failed`.
    static CUDA_ZSTD_HD std::uint64_t bring(Env& env, State* state, unsigned k) {
        std::uint64_t seen = env.load(state->segments[k], Order::acquire);
        unsigned looks = 0;
        while (seen <= Directory::claimed) {
            if (seen == Directory::none) {
                if (!env.compare_exchange(state->segments[k], seen, Directory::claimed, Order::acquire)) continue;
            } else if (looks < most_looks) {
                env.pause(looks++);
                seen = env.load(state->segments[k], Order::acquire);
                continue;
            }
            void* const segment = request(env, state, k);
            const std::uint64_t made =
                segment == nullptr ? Directory::failed : reinterpret_cast<std::uint64_t>(segment);
            seen = Directory::claimed;
            if (env.compare_exchange(state->segments[k], seen, made, Order::acq_rel)) return made;
            // Somebody who waited too long has brought one meanwhile, or has found that there is no memory.
            if (segment != nullptr) pool_of(state).deallocate(env, segment);
        }
        return seen;
    }
    static CUDA_ZSTD_HD void* request(Env& env, State* state, unsigned k) {
        const BasicPoolRef<Env> pool = pool_of(state);
        const std::size_t bytes = (std::size_t{first_count} << k) * sizeof(T);
        constexpr std::uint32_t alignment = alignof(T) < min_slot_bytes ? min_slot_bytes : alignof(T);
        Status status = Status::contended;
        void* segment = nullptr;
        for (unsigned turn = 0; turn < most_requests && segment == nullptr && status == Status::contended; ++turn)
            segment = pool.try_allocate(env, bytes, alignment, status);
        return segment;
    }

    State* state_ = nullptr;
};

} // namespace cuda_zstd
