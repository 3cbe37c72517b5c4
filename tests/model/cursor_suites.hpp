// SPDX-License-Identifier: MIT
// Programs for full searches over a cursor and the slabs that it has, is given and loses.
//
// Invariant: as in credit_suites.hpp, whose parts these suites use.
#pragma once

#include <cstdint>

#include "credit_suites.hpp"

namespace cuda_zstd::model {

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

/// A group that has found the cursor's slab used up sets it aside, or one that finds it set aside takes it up again,
/// just when all of its slots come back and a reclaimer looks for empty slabs.
template <bool is_aside, class Mutation>
struct SetAsideOrReclaim : rl::test_suite<SetAsideOrReclaim<is_aside, Mutation>, 2>, CreditSuite<2, 1, Mutation> {
    using typename CreditSuite<2, 1, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, low_bits(this->model.slots), true);
        this->model.put_cursor(env, is_aside ? 0 : 1, is_aside ? 1 : 0);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 1) {
            this->model.give_all(env, 0);
            this->model.reclaim(env);
            return;
        }
        const Cursor seen = is_aside ? Cursor::of(0, 1) : Cursor::of(1, 0);
        bool lacks_shared = false;
        const SlabGrant grant = this->model.supply().take_shared(env, this->model.size_class, 1, seen, lacks_shared);
        RL_ASSERT(!lacks_shared);
        if (grant.count == 0) return;
        const std::uint32_t slot = this->model.slabs().find_slot(env, grant.slab, grant.start, 0);
        this->model.give(env, this->model.block_of(grant.slab, slot));
    }
    void after() {
        Env env(this->warps[0]);
        this->model.expect_rest(env, 0);
    }
};

/// A group brings a slab in place of one that was set aside, whose slots all come back meanwhile, and a reclaimer
/// looks. If somebody takes the pages that the group had looked at, it brings none.
template <bool is_taken, class Mutation>
struct BringOrReclaim : rl::test_suite<BringOrReclaim<is_taken, Mutation>, 2>, CreditSuite<2, 6, Mutation> {
    using typename CreditSuite<2, 6, Mutation>::Env;

    void before() {
        Env env(this->warps[0]);
        this->model.prepare(env);
        this->model.put_slab(env, 0, low_bits(this->model.slots), true);
        this->model.put_cursor(env, 0, 1);
        env.store(this->model.supply().rovers(env).position(0), 1, Order::relaxed);
    }
    void thread(unsigned index) {
        Env env(this->warps[index]);
        if (index == 1) {
            if (is_taken) has_taken = this->model.supply().pages.claim_at(env, 1, 1);
            this->model.give_all(env, 0);
            this->model.reclaim(env);
            return;
        }
        const SlabGrant grant = this->model.supply().bring_shared(env, Cursor::of(0, 1), this->model.size_class, 1);
        if (grant.count == 0) return;
        const std::uint32_t slot = this->model.slabs().find_slot(env, grant.slab, grant.start, 0);
        this->model.give(env, this->model.block_of(grant.slab, slot));
    }
    void after() {
        Env env(this->warps[0]);
        if (has_taken) this->model.supply().pages.release(env, 1, 1, Rovers<Env>{});
        this->model.expect_rest(env, 0);
    }
    bool has_taken = false;
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
