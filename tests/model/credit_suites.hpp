// SPDX-License-Identifier: MIT
// Programs for full searches over the credits of a slab: few steps of the heap's own source for each of two threads,
// from a state that matters. Those over the cursor that leads to it: cursor_suites.hpp.
//
// Invariant: each suite ends with SmallHeap::expect_rest: no slot is lost or given out twice, and each slab is in one
// place. What a thread did to a block before it freed it is seen by the next owner, else a race is reported.
#pragma once

#include <cstdint>
#include <utility>

#include "small_heap.hpp"

namespace cuda_zstd::model {

/// What the suites have: pages of slabs with slots of one size.
template <rl::thread_id_t Threads, std::uint32_t page_count, class Mutation, std::uint32_t slot_bytes = max_slot_bytes>
struct CreditSuite {
    using Env = LoneLane<Threads, Mutation>;
    ModelWarp<Threads, 1> warps[Threads];
    SmallHeap<Env, page_count, slot_bytes> model;
};

/// The calls of users on one slab of two slots, in the cursor: slots and credits go from hand to hand, the slab becomes
/// empty again and again.
template <rl::thread_id_t Threads, class Mutation>
struct HandToHand : rl::test_suite<HandToHand<Threads, Mutation>, Threads>, CreditSuite<Threads, 2, Mutation> {
    using typename CreditSuite<Threads, 2, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 0, true);
        this->model.put_slab(env, 1, 1, true); // so that nobody prepares one
        this->model.put_cursor(env, 1, 2);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        for (unsigned round = 0; round < (Threads == 2 ? index + 1 : 1); ++round)
            this->model.give(env, this->model.take(env));
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 1);
    }
};

/// The same on three slots in disorder: the first is an old block, which one thread frees while both take others, so
/// that slots have to be searched.
template <class Mutation>
struct FreedInto : rl::test_suite<FreedInto<Mutation>, 2>, CreditSuite<2, 2, Mutation, 20480> {
    using typename CreditSuite<2, 2, Mutation, 20480>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 1, true);
        this->model.put_slab(env, 1, 1, true);
        this->model.put_cursor(env, 1, 2);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        void* const block = this->model.take(env);
        this->model.give(env, index == 0 ? block : this->model.block_of(0, 0));
        if (index == 1) kept = block;
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 2);
        this->model.give(env, kept);
        this->model.expect_rest(env, 1);
    }
    void* kept = nullptr;
};

/// All want the last slot of a slab in the cursor, each as one of some: what a thread did not get goes back.
template <rl::thread_id_t Threads, class Mutation>
struct LastSlot : rl::test_suite<LastSlot<Threads, Mutation>, Threads>, CreditSuite<Threads, 1, Mutation> {
    using typename CreditSuite<Threads, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 2, true);
        this->model.put_cursor(env, 1, 0);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        void* const block = this->model.take_from(env, 0, index + 1);
        if (block != nullptr) this->model.give(env, block);
        got[index] = block != nullptr;
    }
    void after() {
        Env env(this->warps[0]);
        bool somebody_got_it = false;
        for (const bool mine : got)
            somebody_got_it |= mine;
        RL_ASSERT(somebody_got_it);
        this->model.expect_rest(env, 1);
    }
    bool got[Threads] = {};
};

/// A full slab, which is out of reach. Each thread frees one of its two blocks: one of them puts it on the list, or it
/// is retired.
template <class Mutation>
struct LastFrees : rl::test_suite<LastFrees<Mutation>, 2>, CreditSuite<2, 1, Mutation> {
    using typename CreditSuite<2, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 3, false);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        this->model.give(env, this->model.block_of(0, index));
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 0);
    }
};

/// How many of a full slab's blocks are freed at once.
enum class Freed { one, all };

/// A full slab, which is out of reach. One thread frees, so that the slab is listed or retired, while another, which
/// knows the slab's number from before, tries to reserve there: with luck it gets a slot, else its debt passes through
/// the word.
template <Freed freed, class Mutation>
struct StaleNumber : rl::test_suite<StaleNumber<freed, Mutation>, 2>, CreditSuite<2, 1, Mutation> {
    using typename CreditSuite<2, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 3, false);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 1) {
            kept = this->model.take_from(env, 0, freed == Freed::one ? 2 : 1);
            if (kept != nullptr && freed == Freed::one) this->model.give(env, std::exchange(kept, nullptr));
        } else if (freed == Freed::all) {
            this->model.give_all(env, 0);
        } else {
            this->model.give(env, this->model.block_of(0, 0));
        }
    }
    void after() {
        Env env(this->warps[0]);
        const std::uint32_t live = freed == Freed::one ? 1 : 0;
        this->model.expect_rest(env, live + (kept != nullptr ? 1 : 0));
        if (kept == nullptr) return;
        this->model.give(env, kept);
        this->model.expect_rest(env, live);
    }
    void* kept = nullptr;
};

/// A page that was a slab becomes one again, all of whose slots have an owner at once, while somebody who knows the
/// number from before tries to reserve there.
template <class Mutation>
struct Reborn : rl::test_suite<Reborn<Mutation>, 2>, CreditSuite<2, 1, Mutation> {
    using typename CreditSuite<2, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 0)
            RL_ASSERT(this->model.take_slab(env));
        else
            RL_ASSERT(this->model.take_from(env, 0) == nullptr);
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 2);
    }
};

/// The same with a slab that is made for the cursor: there is a slot for the late one if it sees it.
template <class Mutation>
struct RebornInReach : rl::test_suite<RebornInReach<Mutation>, 2>, CreditSuite<2, 1, Mutation> {
    using typename CreditSuite<2, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 0) {
            this->model.take(env);
            return;
        }
        void* const block = this->model.take_from(env, 0);
        if (block != nullptr) this->model.give(env, block);
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 1);
    }
};

/// A full slab is freed at once and retired, while another thread makes a slab of its page, if it finds that free, and
/// writes to all slots.
template <class Mutation>
struct PagePassesOn : rl::test_suite<PagePassesOn<Mutation>, 2>, CreditSuite<2, 1, Mutation> {
    using typename CreditSuite<2, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 3, false);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 0)
            this->model.give_all(env, 0);
        else
            born = this->model.take_slab(env);
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, born ? 2 : 0);
    }
    bool born = false;
};

/// A holder gives a slab with one block its place, while that block is freed and its thread then reclaims: the slab
/// is retired, or the next reclaim is told of it.
template <class Mutation>
struct EmptiedWhileHeld : rl::test_suite<EmptiedWhileHeld<Mutation>, 2>, CreditSuite<2, 1, Mutation> {
    using typename CreditSuite<2, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 1, true);
        this->model.supply().stations.begin_move(env); // the holder's
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 0) {
            this->model.supply().settle(env, 0);
            this->model.supply().stations.end_move(env);
            return;
        }
        this->model.give(env, this->model.block_of(0, 0));
        this->model.supply().begin_whole_sweep(env);
        this->model.supply().drain_list(env, this->model.list());
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 0);
    }
};

/// A full slab's blocks are freed at once, while another thread, which knows the number from before, has subtracted as
/// many credits as that gives: its return of them retires the slab. Whoever gets the page then, for whatever size, must
/// see what the owners of the blocks did.
template <class Mutation>
struct RetiredByAReturn : rl::test_suite<RetiredByAReturn<Mutation>, 2>, CreditSuite<2, 1, Mutation> {
    using typename CreditSuite<2, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 3, false);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 0) {
            this->model.give_all(env, 0);
            return;
        }
        std::uint32_t returned = 0;
        if (this->model.slabs().reserve(env, 0, this->model.size_class, 2, returned).count == 0) {
            this->model.supply().give_back(env, 0, returned);
        } else {
            this->model.take_all(env, 0);
            this->model.give_all(env, 0);
        }
        const auto& pages = this->model.supply().pages;
        if (!pages.claim_at(env, 0, 1)) return;
        this->model.touch_all(0);
        pages.release(env, 0, 1, {});
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 0);
    }
};

} // namespace cuda_zstd::model
