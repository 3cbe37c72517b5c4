// SPDX-License-Identifier: MIT
// The environment of kernels.
//
// Invariant: stateless, so that it costs nothing to make one; atomics are libcu++'s at device scope, which is the scope
// of a heap that all blocks of a grid and several streams share; whole-warp sums and scans are CUB's. Members carry
// both function qualifiers because the heap's templates do; on the host they must not run, and trap.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/env/atom.hpp"
#include "cuda_zstd/env/environment.hpp"

#include <cub/warp/warp_reduce.cuh>
#include <cub/warp/warp_scan.cuh>
#include <cuda/atomic>
#include <cuda/std/functional>

namespace cuda_zstd {

class cuda_env {
public:
    template <class T>
    using atom = Atom<T>;
    static constexpr unsigned warp_lanes = 32;

    CUDA_ZSTD_INLINE unsigned lane() const {
#if defined(__CUDA_ARCH__)
        unsigned lane;
        asm("mov.u32 %0, %%laneid;" : "=r"(lane));
        return lane;
#else
        return not_here();
#endif
    }
    CUDA_ZSTD_INLINE LaneMask lanes_before() const {
#if defined(__CUDA_ARCH__)
        LaneMask lanes;
        asm("mov.u32 %0, %%lanemask_lt;" : "=r"(lanes));
        return lanes;
#else
        return not_here();
#endif
    }
    /// The own bit makes the mask a value of this lane's, which it has anyway: the compiler (13.0) takes the bare
    /// instruction's result for the warp's, keeps it in a register of the warp, and mixes up groups of lanes that went
    /// apart and meet again.
    CUDA_ZSTD_INLINE LaneMask converged() const {
#if defined(__CUDA_ARCH__)
        return __activemask() | 1u << lane();
#else
        return not_here();
#endif
    }
    CUDA_ZSTD_INLINE LaneMask match_any([[maybe_unused]] LaneMask mask, [[maybe_unused]] std::uint32_t key) const {
#if defined(__CUDA_ARCH__)
        return __match_any_sync(mask, key);
#else
        return not_here();
#endif
    }
    CUDA_ZSTD_INLINE LaneMask ballot([[maybe_unused]] LaneMask mask, [[maybe_unused]] bool predicate) const {
#if defined(__CUDA_ARCH__)
        return __ballot_sync(mask, predicate);
#else
        return not_here();
#endif
    }
    template <class T>
    CUDA_ZSTD_INLINE T shfl([[maybe_unused]] LaneMask mask, T value, [[maybe_unused]] unsigned source) const {
#if defined(__CUDA_ARCH__)
        return __shfl_sync(mask, value, static_cast<int>(source));
#else
        not_here();
        return value;
#endif
    }
    CUDA_ZSTD_INLINE void sync([[maybe_unused]] LaneMask mask) const {
#if defined(__CUDA_ARCH__)
        __syncwarp(mask);
#else
        not_here();
#endif
    }
    CUDA_ZSTD_INLINE std::uint32_t reduce_or([[maybe_unused]] LaneMask mask, std::uint32_t value) const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
        return __reduce_or_sync(mask, value);
#elif defined(__CUDA_ARCH__)
        std::uint32_t all = 0;
        for (LaneMask left = mask; left != 0; left &= left - 1)
            all |= __shfl_sync(mask, value, lowest_bit(left));
        return all;
#else
        not_here();
        return value;
#endif
    }
    /// Every lane receives the warp's sum.
    CUDA_ZSTD_INLINE std::uint32_t warp_sum(std::uint32_t value) const {
#if defined(__CUDA_ARCH__)
        using Reduce = cub::WarpReduce<std::uint32_t>;
        typename Reduce::TempStorage storage;
        return __shfl_sync(0xffffffffu, Reduce(storage).Sum(value), 0);
#else
        not_here();
        return value;
#endif
    }
    CUDA_ZSTD_INLINE std::uint32_t warp_exclusive_sum(std::uint32_t value) const {
#if defined(__CUDA_ARCH__)
        using Scan = cub::WarpScan<std::uint32_t>;
        typename Scan::TempStorage storage;
        std::uint32_t before;
        Scan(storage).ExclusiveSum(value, before);
        return before;
#else
        not_here();
        return value;
#endif
    }
    /// Every lane receives the warp's maximum.
    CUDA_ZSTD_INLINE std::uint32_t warp_max(std::uint32_t value) const {
#if defined(__CUDA_ARCH__)
        using Reduce = cub::WarpReduce<std::uint32_t>;
        typename Reduce::TempStorage storage;
        return __shfl_sync(0xffffffffu, Reduce(storage).Reduce(value, cuda::maximum<>{}), 0);
#else
        not_here();
        return value;
#endif
    }
    CUDA_ZSTD_INLINE unsigned processor() const {
#if defined(__CUDA_ARCH__)
        unsigned processor;
        asm volatile("mov.u32 %0, %%smid;" : "=r"(processor));
        return processor;
#else
        return not_here();
#endif
    }
    CUDA_ZSTD_INLINE void pause([[maybe_unused]] unsigned attempt) const {
#if defined(__CUDA_ARCH__)
        __nanosleep(attempt < 8 ? 32u << attempt : 4096u);
#else
        not_here();
#endif
    }

    /// A word that changes seldom, always relaxed: whoever reads it beside a change finds either value.
    CUDA_ZSTD_INLINE std::uint32_t load_word(const std::uint32_t& word, Order) const {
        return Ref<std::uint32_t>(const_cast<std::uint32_t&>(word)).load(cuda::std::memory_order_relaxed);
    }
    CUDA_ZSTD_INLINE void store_word(std::uint32_t& word, std::uint32_t value, Order) const {
        Ref<std::uint32_t>(word).store(value, cuda::std::memory_order_relaxed);
    }
    template <class T>
    CUDA_ZSTD_INLINE T load(const atom<T>& a, Order order) const {
        const Ref<T> ref(const_cast<T&>(a.value));
        return order == Order::acquire ? ref.load(cuda::std::memory_order_acquire)
                                       : ref.load(cuda::std::memory_order_relaxed);
    }
    template <class T>
    CUDA_ZSTD_INLINE void store(atom<T>& a, T value, Order order) const {
        const Ref<T> ref(a.value);
        if (order == Order::release) {
            ref.store(value, cuda::std::memory_order_release);
        } else {
            ref.store(value, cuda::std::memory_order_relaxed);
        }
    }
    /// A store that the host may wait for: release, at system scope.
    template <class T>
    CUDA_ZSTD_INLINE void store_for_host(atom<T>& a, T value) const {
        cuda::atomic_ref<T, cuda::thread_scope_system>(a.value).store(value, cuda::std::memory_order_release);
    }
    /// A store that the host reads once it has seen a later store_for_host: relaxed, at system scope.
    template <class T>
    CUDA_ZSTD_INLINE void put_for_host(atom<T>& a, T value) const {
        cuda::atomic_ref<T, cuda::thread_scope_system>(a.value).store(value, cuda::std::memory_order_relaxed);
    }
    template <class T>
    CUDA_ZSTD_INLINE T exchange(atom<T>& a, T value, Order order) const {
        return Ref<T>(a.value).exchange(value, standard(order));
    }
    /// On failure `expected` receives the value found.
    template <class T>
    CUDA_ZSTD_INLINE bool compare_exchange(atom<T>& a, T& expected, T desired, Order order) const {
        return Ref<T>(a.value).compare_exchange_strong(expected, desired, standard(order), load_half(order));
    }
    template <class T>
    CUDA_ZSTD_INLINE T fetch_add(atom<T>& a, T value, Order order) const {
        return Ref<T>(a.value).fetch_add(value, standard(order));
    }
    template <class T>
    CUDA_ZSTD_INLINE T fetch_sub(atom<T>& a, T value, Order order) const {
        return Ref<T>(a.value).fetch_sub(value, standard(order));
    }
    template <class T>
    CUDA_ZSTD_INLINE T fetch_or(atom<T>& a, T value, Order order) const {
        return Ref<T>(a.value).fetch_or(value, standard(order));
    }
    template <class T>
    CUDA_ZSTD_INLINE T fetch_and(atom<T>& a, T value, Order order) const {
        return Ref<T>(a.value).fetch_and(value, standard(order));
    }
    template <class T>
    CUDA_ZSTD_INLINE T fetch_min(atom<T>& a, T value, Order order) const {
        return Ref<T>(a.value).fetch_min(value, standard(order));
    }

private:
    template <class T>
    using Ref = cuda::atomic_ref<T, cuda::thread_scope_device>;

    static constexpr CUDA_ZSTD_HD cuda::std::memory_order standard(Order order) {
        switch (order) {
        case Order::relaxed:
            return cuda::std::memory_order_relaxed;
        case Order::acquire:
            return cuda::std::memory_order_acquire;
        case Order::release:
            return cuda::std::memory_order_release;
        case Order::acq_rel:
            return cuda::std::memory_order_acq_rel;
        }
        return cuda::std::memory_order_acq_rel;
    }
    static constexpr CUDA_ZSTD_HD cuda::std::memory_order load_half(Order order) {
        return order == Order::acquire || order == Order::acq_rel ? cuda::std::memory_order_acquire
                                                                  : cuda::std::memory_order_relaxed;
    }
    static CUDA_ZSTD_INLINE unsigned not_here() {
#if !defined(__CUDA_ARCH__)
        __builtin_trap();
#endif
        return 0;
    }
};

} // namespace cuda_zstd
