// SPDX-License-Identifier: MIT
// The list of slabs of one size class that have free slots and are in no cursor.
//
// Invariant: a slab is on at most one list, put there by its holder; whoever takes it off becomes its holder. A stack
// after Treiber (1986) whose head carries a counter, so that a head seen, taken and put back is not taken for
// unchanged. The links live apart from the slabs and are never unmapped: a stale read is harmless.
//
// Taking a slab off also releases: who sees it gone sees what the taker did before, such as marking the cursor that it
// is for.
//
// Progress: lock-free; a failed compare-and-swap means that another push or pop succeeded.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"

#include <cstdint>

namespace cuda_zstd {

template <class Env>
struct SlabList {
    template <class T>
    using atom = typename Env::template atom<T>;

    atom<std::uint64_t>* head; ///< lower half: slab + 1, 0 when empty; upper half: the counter
    atom<std::uint32_t>* next; ///< for each slab, the one below it: slab + 1, or 0

    static constexpr std::uint32_t empty = 0xffffffffu;

    /// Cost: one load and one compare-and-swap when nobody interferes.
    CUDA_ZSTD_HD void push(Env& env, std::uint32_t slab) const { push_chain(env, slab, slab); }

    /// Pushes slabs that are already linked from `first` to `last` by `next`.
    CUDA_ZSTD_HD void push_chain(Env& env, std::uint32_t first, std::uint32_t last) const {
        std::uint64_t seen = env.load(*head, Order::relaxed);
        do {
            env.store(next[last], static_cast<std::uint32_t>(seen), Order::relaxed);
        } while (!env.compare_exchange(*head, seen, retag(seen, first + 1u), Order::release));
    }

    /// The slab put there last, or `empty`. Cost: two dependent loads and one compare-and-swap.
    CUDA_ZSTD_HD std::uint32_t pop(Env& env) const { return pop(env, look(env)); }
    /// The same for a caller that has had a look at the list before.
    CUDA_ZSTD_HD std::uint32_t pop(Env& env, std::uint64_t seen) const {
        while (static_cast<std::uint32_t>(seen) != 0) {
            const std::uint32_t slab = static_cast<std::uint32_t>(seen) - 1u;
            const std::uint32_t below = env.load(next[slab], Order::relaxed);
            if (env.compare_exchange(*head, seen, retag(seen, below), Order::acq_rel)) return slab;
        }
        return empty;
    }

    /// Takes all slabs off at once: the first, from which `next` leads to the others, or `empty`.
    CUDA_ZSTD_HD std::uint32_t pop_all(Env& env) const {
        std::uint64_t seen = env.load(*head, Order::acquire);
        while (static_cast<std::uint32_t>(seen) != 0)
            if (env.compare_exchange(*head, seen, retag(seen, 0), Order::acq_rel))
                return static_cast<std::uint32_t>(seen) - 1u;
        return empty;
    }

    CUDA_ZSTD_INLINE std::uint64_t look(Env& env) const { return env.load(*head, Order::acquire); }
    static CUDA_ZSTD_INLINE bool seems_empty(std::uint64_t seen) { return static_cast<std::uint32_t>(seen) == 0; }
    CUDA_ZSTD_HD bool is_empty(Env& env) const { return seems_empty(look(env)); }

private:
    static CUDA_ZSTD_INLINE std::uint64_t retag(std::uint64_t seen, std::uint32_t slab_plus_one) {
        return (((seen >> 32) + 1) << 32) | slab_plus_one;
    }
};

} // namespace cuda_zstd
