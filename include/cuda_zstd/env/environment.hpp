// SPDX-License-Identifier: MIT
// The concept of an environment: where the heap's algorithms run.
//
// Invariant: an algorithm in heap/ learns of lanes, warps, processors and shared memory only through the
// environment that it is given, so that one source runs as a kernel (`cuda_env`), on threads
// (`solo_env`), under a seeded scheduler (`sim_env`) and under a weak-memory model checker (`relacy_env`).
//
// Rules of use:
// - Collectives take the mask of the lanes that call them; each lane of the mask must make the same call.
// - `shfl` and `ballot` order no memory. What one lane acquired, the others may rely on only after `sync`.
// - `converged()` may return any set of lanes of the warp that holds the caller: nothing may depend on how large.
// - Atomics name their order. A failed compare_exchange has the load half of its order.
#pragma once

#include "cuda_zstd/core/memory_order.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace cuda_zstd {

/// One bit for each lane of a warp.
using LaneMask = std::uint32_t;

/// How an environment goes to a function that is kept out of line. One without state goes by value: its address would
/// be that of an object on the stack, in two registers of every call.
template <class Env>
using PassedEnv = std::conditional_t<std::is_empty_v<Env>, Env, Env&>;

template <class E>
concept Environment = requires(E& env, LaneMask mask, std::uint32_t word, std::uint64_t word64, bool flag, unsigned n,
                               typename E::template atom<std::uint32_t>& a32,
                               typename E::template atom<std::uint64_t>& a64) {
    /// Lanes of a warp: 1, or up to 32.
    { E::warp_lanes } -> std::convertible_to<unsigned>;
    { env.lane() } -> std::same_as<unsigned>;
    /// The lanes of the warp whose numbers are smaller.
    { env.lanes_before() } -> std::same_as<LaneMask>;
    /// The lanes that make this call together with the caller, the caller among them.
    { env.converged() } -> std::same_as<LaneMask>;
    { env.match_any(mask, word) } -> std::same_as<LaneMask>;
    { env.ballot(mask, flag) } -> std::same_as<LaneMask>;
    { env.shfl(mask, word, n) } -> std::same_as<std::uint32_t>;
    { env.shfl(mask, word64, n) } -> std::same_as<std::uint64_t>;
    { env.reduce_or(mask, word) } -> std::same_as<std::uint32_t>;
    env.sync(mask);
    /// Whole-warp collectives: every lane of the warp calls. 32-bit sums wrap.
    { env.warp_sum(word) } -> std::same_as<std::uint32_t>;
    { env.warp_exclusive_sum(word) } -> std::same_as<std::uint32_t>;
    { env.warp_max(word) } -> std::same_as<std::uint32_t>;
    /// The processor (SM) that runs the caller: a hint for locality, it may change between two calls.
    { env.processor() } -> std::same_as<unsigned>;
    /// Waits a little, longer for a larger attempt; orders nothing.
    env.pause(n);
    /// A word that changes seldom, always relaxed: whoever reads it beside a change finds either value.
    { env.load_word(word, Order::relaxed) } -> std::same_as<std::uint32_t>;
    env.store_word(word, word, Order::relaxed);
    { env.load(a64, Order::acquire) } -> std::same_as<std::uint64_t>;
    env.store(a64, word64, Order::release);
    { env.exchange(a64, word64, Order::acq_rel) } -> std::same_as<std::uint64_t>;
    { env.compare_exchange(a64, word64, word64, Order::acq_rel) } -> std::same_as<bool>;
    { env.fetch_add(a64, word64, Order::relaxed) } -> std::same_as<std::uint64_t>;
    { env.fetch_sub(a64, word64, Order::relaxed) } -> std::same_as<std::uint64_t>;
    { env.fetch_or(a32, word, Order::acquire) } -> std::same_as<std::uint32_t>;
    { env.fetch_and(a32, word, Order::release) } -> std::same_as<std::uint32_t>;
    { env.fetch_min(a32, word, Order::relaxed) } -> std::same_as<std::uint32_t>;
};

} // namespace cuda_zstd
