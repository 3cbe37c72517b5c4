// SPDX-License-Identifier: MIT
// Programs over a list of slabs for the model checker: whoever pops a slab owns it, and sees what the last owner did.
#pragma once

#include "cuda_zstd/heap/slab_list.hpp"

#include <cstdint>

#include "model_check.hpp"

namespace cuda_zstd::model {

inline constexpr unsigned slab_count = 3;

/// What the suites share: a list of three slabs, each with a word that only its owner may touch.
template <class Env>
struct ModelSlabs {
    ModelAtom<std::uint64_t> head;
    ModelAtom<std::uint32_t> next[slab_count];
    rl::var<int> bytes[slab_count];

    SlabList<Env> list() { return {&head, next}; }

    void prepare(Env& env) {
        env.store(head, 0, Order::relaxed);
        for (unsigned slab = 0; slab < slab_count; ++slab) {
            env.store(next[slab], 0, Order::relaxed);
            touch(slab);
        }
    }
    void touch(std::uint32_t slab) {
        bytes[slab](rl::debug_info("touch", __FILE__, __LINE__)).store(static_cast<int>(slab));
    }
    /// Takes a slab and writes to it. Returns it, or `empty`.
    std::uint32_t take(Env& env) {
        const std::uint32_t slab = list().pop(env);
        if (slab != SlabList<Env>::empty) touch(slab);
        return slab;
    }
    void give(Env& env, std::uint32_t slab) {
        touch(slab);
        list().push(env, slab);
    }
};

/// Threads that take and give back.
template <rl::thread_id_t Threads, class Mutation>
struct TakeAndGive : rl::test_suite<TakeAndGive<Threads, Mutation>, Threads> {
    using Env = relacy_env<Threads, 1, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    ModelSlabs<Env> slabs;

    void before() {
        Env env(warps[0], 0);
        slabs.prepare(env);
        slabs.give(env, 0);
        if (Threads > 2) slabs.give(env, 1);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0);
        for (int round = 0; round < (Threads == 2 ? 2 : 1); ++round) {
            const std::uint32_t slab = slabs.take(env);
            if (slab != SlabList<Env>::empty) slabs.give(env, slab);
        }
    }
    void after() {
        Env env(warps[0], 0);
        unsigned seen = 0;
        while (slabs.take(env) != SlabList<Env>::empty)
            ++seen;
        RL_ASSERT(seen == (Threads > 2 ? 2 : 1));
    }
};

/// The ABA case: one thread pops while the other pops two and pushes the first again.
template <class Mutation>
struct PopAgainstPopPopPush : rl::test_suite<PopAgainstPopPopPush<Mutation>, 2> {
    using Env = relacy_env<2, 1, Mutation>;
    ModelWarp<2, 1> warps[2];
    std::uint32_t kept[2] = {}; ///< for the check at the end only
    ModelSlabs<Env> slabs;

    void before() {
        Env env(warps[0], 0);
        slabs.prepare(env);
        slabs.give(env, 0);
        slabs.give(env, 1);
    }
    void thread(unsigned index) {
        Env env(warps[index], 0);
        if (index == 0) {
            kept[0] = slabs.take(env);
            return;
        }
        const std::uint32_t first = slabs.take(env);
        kept[1] = slabs.take(env);
        if (first != SlabList<Env>::empty) slabs.give(env, first);
        if (kept[1] != SlabList<Env>::empty) slabs.touch(kept[1]);
    }
    void after() {
        Env env(warps[0], 0);
        RL_ASSERT(kept[0] != kept[1]);
        for (;;) {
            const std::uint32_t slab = slabs.take(env);
            if (slab == SlabList<Env>::empty) break;
            RL_ASSERT(slab != kept[0] && slab != kept[1]);
        }
    }
};

} // namespace cuda_zstd::model
