// SPDX-License-Identifier: MIT
// The environment of the host backend: a warp of one lane on a real thread.
// Invariant: collectives are the identity; atomics are the compiler's, so ThreadSanitizer understands them.
#pragma once

#include "cuda_zstd/env/atom.hpp"
#include "cuda_zstd/env/environment.hpp"

#include <atomic>
#include <thread>

namespace cuda_zstd {

class solo_env {
public:
    template <class T>
    using atom = Atom<T>;
    static constexpr unsigned warp_lanes = 1;

    solo_env() noexcept = default;
    /// A thread that stands for one processor of the host backend.
    explicit solo_env(unsigned processor) noexcept : processor_(processor) {}

    unsigned lane() const noexcept { return 0; }
    LaneMask lanes_before() const noexcept { return 0; }
    LaneMask converged() const noexcept { return 1; }
    LaneMask match_any(LaneMask, std::uint32_t) const noexcept { return 1; }
    LaneMask ballot(LaneMask, bool predicate) const noexcept { return predicate ? 1u : 0u; }
    template <class T>
    T shfl(LaneMask, T value, unsigned) const noexcept {
        return value;
    }
    void sync(LaneMask) const noexcept {}
    /// The bitwise or over the lanes of the mask.
    std::uint32_t reduce_or(LaneMask, std::uint32_t value) const noexcept { return value; }
    std::uint32_t warp_sum(std::uint32_t value) const noexcept { return value; }
    std::uint32_t warp_exclusive_sum(std::uint32_t) const noexcept { return 0; }
    std::uint32_t warp_max(std::uint32_t value) const noexcept { return value; }
    unsigned processor() const noexcept { return processor_; }
    void pause(unsigned attempt) const noexcept {
        if (attempt > 8) std::this_thread::yield();
    }

    /// A word that changes seldom, always relaxed: whoever reads it beside a change finds either value.
    std::uint32_t load_word(const std::uint32_t& word, Order) const noexcept {
        return std::atomic_ref<std::uint32_t>(const_cast<std::uint32_t&>(word)).load(std::memory_order_relaxed);
    }
    void store_word(std::uint32_t& word, std::uint32_t value, Order) const noexcept {
        std::atomic_ref<std::uint32_t>(word).store(value, std::memory_order_relaxed);
    }
    template <class T>
    T load(const atom<T>& a, Order order) const noexcept {
        return std::atomic_ref<T>(const_cast<T&>(a.value)).load(standard(order));
    }
    template <class T>
    void store(atom<T>& a, T value, Order order) const noexcept {
        std::atomic_ref<T>(a.value).store(value, standard(order));
    }
    /// A store that other processors of the system, the host's among them, may wait for: release, at system scope.
    template <class T>
    void store_for_host(atom<T>& a, T value) const noexcept {
        store(a, value, Order::release);
    }
    /// A store that the host reads once it has seen a later store_for_host; and who sees this one, sees what came
    /// before.
    template <class T>
    void put_for_host(atom<T>& a, T value) const noexcept {
        store(a, value, Order::release);
    }
    template <class T>
    T exchange(atom<T>& a, T value, Order order) const noexcept {
        return std::atomic_ref<T>(a.value).exchange(value, standard(order));
    }
    /// On failure `expected` receives the value found.
    template <class T>
    bool compare_exchange(atom<T>& a, T& expected, T desired, Order order) const noexcept {
        return std::atomic_ref<T>(a.value).compare_exchange_strong(expected, desired, standard(order),
                                                                   load_half(order));
    }
    template <class T>
    T fetch_add(atom<T>& a, T value, Order order) const noexcept {
        return std::atomic_ref<T>(a.value).fetch_add(value, standard(order));
    }
    template <class T>
    T fetch_sub(atom<T>& a, T value, Order order) const noexcept {
        return std::atomic_ref<T>(a.value).fetch_sub(value, standard(order));
    }
    template <class T>
    T fetch_or(atom<T>& a, T value, Order order) const noexcept {
        return std::atomic_ref<T>(a.value).fetch_or(value, standard(order));
    }
    template <class T>
    T fetch_and(atom<T>& a, T value, Order order) const noexcept {
        return std::atomic_ref<T>(a.value).fetch_and(value, standard(order));
    }
    template <class T>
    T fetch_min(atom<T>& a, T value, Order order) const noexcept {
        T seen = load(a, Order::relaxed);
        while (value < seen && !compare_exchange(a, seen, value, order)) {
        }
        return seen;
    }

private:
    static constexpr std::memory_order standard(Order order) noexcept {
        switch (order) {
        case Order::relaxed:
            return std::memory_order_relaxed;
        case Order::acquire:
            return std::memory_order_acquire;
        case Order::release:
            return std::memory_order_release;
        case Order::acq_rel:
            return std::memory_order_acq_rel;
        }
        return std::memory_order_acq_rel;
    }
    static constexpr std::memory_order load_half(Order order) noexcept {
        return order == Order::acquire || order == Order::acq_rel ? std::memory_order_acquire
                                                                  : std::memory_order_relaxed;
    }

    unsigned processor_ = 0;
};

} // namespace cuda_zstd
