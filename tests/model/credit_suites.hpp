// SPDX-License-Identifier: MIT
// Programs for full searches over the credits of a slab and the cursor that leads to it: few steps of the heap's own
// source for each of two threads, from a state that matters.
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

/// A reclaimer takes an empty slab out of the cursor, from which another thread takes a block.
template <class Mutation>
struct DrainedCursor : rl::test_suite<DrainedCursor<Mutation>, 2>, CreditSuite<2, 1, Mutation> {
    using typename CreditSuite<2, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 0, true);
        this->model.put_cursor(env, 1, 0);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 0) {
            this->model.supply().drain_cursor(env, this->model.cursor());
            return;
        }
        const Cursor seen{env.load(this->model.cursor(), Order::relaxed)};
        if (seen.current_plus_1() == 0) return;
        void* const block = this->model.take_from(env, 0);
        if (block != nullptr) this->model.give(env, block);
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 0);
    }
};

/// The cursor's slab is used up and another is ready. Two groups have found that, by a subtraction that they owe: one
/// moves on, the other follows.
template <class Mutation, bool both_are_first = false>
struct MoveOn : rl::test_suite<MoveOn<Mutation, both_are_first>, 2>, CreditSuite<2, 2, Mutation, 12288> {
    using typename CreditSuite<2, 2, Mutation, 12288>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 31, true);
        this->model.put_slab(env, 1, 1, true);
        this->model.put_cursor(env, 1, 2);
        for (SlabWord& word : found)
            word = this->model.slabs().subtract(env, 0, 1);
        if (both_are_first) found[1] = found[0]; // came after another had given back what it subtracted
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        this->model.take_slot(env, this->model.reserve_rarely(env, Cursor::of(1, 2), found[index]));
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 8);
    }
    SlabWord found[2] = {};
};

/// One thread needs a slot, finds the cursor's slab full and moves on, while another frees blocks of that slab: it ends
/// on the list, empty in reach, or retired.
template <Freed freed, class Mutation>
struct LeftBehind : rl::test_suite<LeftBehind<freed, Mutation>, 2>, CreditSuite<2, 2, Mutation, 12288> {
    using typename CreditSuite<2, 2, Mutation, 12288>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 31, true);
        this->model.put_slab(env, 1, 1, true);
        this->model.put_cursor(env, 1, 2);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 0)
            this->model.take(env);
        else if (freed == Freed::all)
            this->model.give_all(env, 0);
        else
            this->model.give(env, this->model.block_of(0, 0));
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, freed == Freed::all ? 2 : 6);
    }
};

/// Two that took the cursor's last slots prepare a slab to follow it, with two on the list: one gets its own there, and
/// the other puts back what it popped.
template <class Mutation>
struct TwoPrepare : rl::test_suite<TwoPrepare<Mutation>, 2>, CreditSuite<2, 3, Mutation> {
    using typename CreditSuite<2, 3, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 0, true);
        this->model.put_cursor(env, 1, 0);
        for (SlabWord& word : found)
            word = this->model.slabs().subtract(env, 0, 1);
        for (std::uint32_t page = 1; page < 3; ++page) {
            this->model.put_slab(env, page, 1, true);
            this->model.list().push(env, page);
        }
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        grants[index] = this->model.reserve_rarely(env, Cursor::of(1, 0), found[index]);
    }
    void after() {
        Env env(this->warps[0]);
        for (const SlabGrant& grant : grants)
            this->model.take_slot(env, grant);
        this->model.expect_rest(env, 4);
        RL_ASSERT(Cursor{env.load(this->model.cursor(), Order::relaxed)}.next_plus_1() != 0);
    }
    SlabWord found[2] = {};
    SlabGrant grants[2] = {};
};

/// One takes a slot of the cursor's slab and prepares another to follow it, while a reclaimer takes the slab, which it
/// saw empty, out of the cursor.
template <class Mutation>
struct PrepareOrDrain : rl::test_suite<PrepareOrDrain<Mutation>, 2>, CreditSuite<2, 4, Mutation> {
    using typename CreditSuite<2, 4, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 0, true);
        this->model.put_cursor(env, 1, 0);
        this->model.put_slab(env, 1, 1, true);
        this->model.list().push(env, 1);
        for (std::uint32_t page = 2; page < 4; ++page) // so that a free page is not plenty
            this->model.put_slab(env, page, 3, false);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 0)
            this->model.take(env);
        else
            this->model.supply().drain_cursor(env, this->model.cursor());
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 6);
    }
};

/// One that took the cursor's last slot prepares a slab to follow it, while another brings one at once.
template <class Mutation>
struct PrepareOrBring : rl::test_suite<PrepareOrBring<Mutation>, 2>, CreditSuite<2, 2, Mutation> {
    using typename CreditSuite<2, 2, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, 2, true);
        this->model.put_cursor(env, 1, 0);
        found = this->model.slabs().subtract(env, 0, 1);
        this->model.put_slab(env, 1, 0, true);
        this->model.list().push(env, 1);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 0)
            grant = this->model.reserve_rarely(env, Cursor::of(1, 0), found);
        else
            this->model.take(env);
    }
    void after() {
        Env env(this->warps[0]);
        this->model.take_slot(env, grant);
        this->model.expect_rest(env, 3);
    }
    SlabWord found{0};
    SlabGrant grant;
};

} // namespace cuda_zstd::model
