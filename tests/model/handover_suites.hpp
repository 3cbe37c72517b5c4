// SPDX-License-Identifier: MIT
// Programs over the magazines' hand-over for the model checker: blocks go from a thread's cache to the caller, to other
// threads and to the pools, and caches end.
#pragma once

#include "handover_pool.hpp"

namespace cuda_zstd::model {

/// The owner of a lock enters, and another thread locks.
template <class With>
struct OwnerAndAnother : rl::test_suite<OwnerAndAnother<With>, 2> {
    typename With::Lock lock{With::Lock::Owner::one_thread};
    Plain<int> guarded{0};

    void thread(unsigned index) {
        for (int round = 0; round < 2; ++round)
            if (index == 0) {
                const typename With::Stay stay(lock);
                guarded.set(guarded.get() + 1);
            } else if (round == 0) {
                const Held others(lock);
                guarded.set(guarded.get() + 1);
            }
    }
    void after() { RL_ASSERT(guarded.get() == 3); }
};

/// The owner of a gate passes, and another thread wants to be the only one inside; who finds that out takes the mutex.
template <int Passages, class With>
struct PassageAndAlone : rl::test_suite<PassageAndAlone<Passages, With>, 2> {
    typename With::Gate gate;
    typename With::Threads::template Atomic<std::uint32_t> alone{0};
    typename With::Mutex mutex;
    Plain<int> guarded{0};

    void thread(unsigned index) {
        if (index == 1) {
            alone.store(1, std::memory_order_relaxed);
            {
                const Held shut(mutex);
                With::Threads::barrier();
                gate.wait_until_left();
                guarded.set(guarded.get() + 1);
            }
            alone.store(0, std::memory_order_release);
            return;
        }
        for (int passage = 0; passage < Passages; ++passage)
            if (gate.enter(alone)) {
                guarded.set(guarded.get() + 1);
                gate.leave(alone);
            } else {
                const Held shared(mutex);
                guarded.set(guarded.get() + 1);
            }
    }
    void after() { RL_ASSERT(guarded.get() == Passages + 1); }
};

/// A record is published, and two threads claim it: what they know of it they know by its word.
template <class With>
struct PublishedAndClaimed : rl::test_suite<PublishedAndClaimed<With>, 3> {
    typename With::Word word;
    Plain<int> fields{0};
    bool claimed[3] = {};

    void thread(unsigned index) {
        using State = RecordWord::State;
        if (index == 0) {
            fields.set(1);
            word.publish(word.word().renewed(State::live, 1, PoolKind::small, 0));
            return;
        }
        const RecordWord mine = word.claim_if(State::live, [](RecordWord seen) { return seen.sequence() == 1; });
        if (mine.state() != State::claimed) return;
        claimed[index] = true;
        RL_ASSERT(fields.get() == 1);
        fields.set(2);
        word.publish(mine.plain(State::absent));
    }
    void after() { RL_ASSERT(!claimed[1] || !claimed[2]); }
};

/// One thread allocates from its magazine and frees there, the others take its blocks out and use them.
template <rl::thread_id_t Threads, class With>
struct CollectedBesideHits : rl::test_suite<CollectedBesideHits<Threads, With>, Threads> {
    ModelPool<With, Threads> pool;

    void before() { pool.cache_block(0, 0); }
    void thread(unsigned index) {
        const int thread = static_cast<int>(index);
        if (index != 0) pool.collect(0);
        int block = index == 0 ? pool.allocate(0) : none;
        if (block == none) block = pool.allocate_from_pool(thread);
        if (block == none) return;
        pool.records[block].bytes.set(thread);
        RL_ASSERT(pool.free_block(thread, block));
    }
    void after() {
        pool.give_to_pool(1);
        pool.expect_all_but(0);
    }
};

/// A thread frees what another has allocated. The caller's own hand-over orders nothing here, so that the record must.
template <class With>
struct FreedElsewhere : rl::test_suite<FreedElsewhere<With>, 2> {
    ModelPool<With, 2> pool;
    CheckedAtomic<int, AsWritten> handed{none};
    bool freed = false;

    void before() {
        pool.cache_block(0, 0);
        pool.give_to_pool(1);
    }
    void thread(unsigned index) {
        if (index == 0) {
            handed.store(pool.allocate(0), std::memory_order_relaxed);
            const int more = pool.allocate_from_pool(0);
            if (more != none) RL_ASSERT(pool.free_block(0, more));
            return;
        }
        // It need not have seen the allocation yet.
        const int block = handed.load(std::memory_order_relaxed);
        freed = block != none && pool.free_block(1, block);
    }
    void after() {
        RL_ASSERT(freed != pool.deallocate_to_pool(0));
        pool.expect_all_but(0);
    }
};

/// Two threads free the same block: one of them may.
template <class With>
struct FreedTwice : rl::test_suite<FreedTwice<With>, 2> {
    ModelPool<With, 2> pool;
    bool freed[2] = {};

    void before() {
        pool.cache_block(0, 0);
        RL_ASSERT(pool.allocate(0) == 0);
        pool.give_to_pool(1);
    }
    void thread(unsigned index) { freed[index] = pool.free_block(static_cast<int>(index), 0); }
    void after() {
        RL_ASSERT(freed[0] != freed[1]);
        pool.expect_all_but(0);
    }
};

/// A thread ends while another brings all threads' blocks to the pool, and allocates.
template <class With>
struct ThreadEnds : rl::test_suite<ThreadEnds<With>, 2> {
    ModelPool<With, 2> pool;

    void before() {
        pool.cache_block(0, 0);
        pool.cache_block(0, 1);
    }
    void thread(unsigned index) {
        if (index == 0) {
            const int block = pool.allocate(0);
            if (block != none) RL_ASSERT(pool.free_block(0, block));
            pool.leave(0);
            return;
        }
        pool.collect_all();
        const int block = pool.allocate_from_pool(1);
        if (block == none) return;
        pool.records[block].bytes.set(1);
        RL_ASSERT(pool.free_block(1, block));
    }
    void after() { pool.expect_all_but(0); }
};

/// A thread closes all caches and then has the records to itself; whoever finds the cache closed waits at the
/// turnstile.
template <class With>
struct ClosedCaches : rl::test_suite<ClosedCaches<With>, 2> {
    ModelPool<With, 2> pool;
    typename With::Mutex turnstile;

    void before() {
        pool.cache_block(0, 0);
        pool.give_to_pool(1);
    }
    void thread(unsigned index) {
        if (index == 0) {
            int block = pool.allocate(0);
            if (block == none) {
                const Held passage(turnstile);
                block = pool.allocate_from_pool(0);
            }
            RL_ASSERT(block != none);
            pool.records[block].bytes.set(0);
            if (pool.deallocate(0, block)) return;
            const Held passage(turnstile);
            RL_ASSERT(pool.deallocate_to_pool(block));
            return;
        }
        const Held alone(turnstile);
        const Held list(pool.list_mutex);
        pool.set_closed(true);
        for (auto& record : pool.records) {
            (void)record.next.get();
            record.fields.set(7);
        }
        pool.set_closed(false);
    }
    void after() { pool.expect_all_but(0); }
};

/// A table that was outgrown is freed when whoever was in it has left its cache.
template <class With>
struct OutgrownTable : rl::test_suite<OutgrownTable<With>, 2> {
    ModelPool<With, 2> pool;
    Plain<bool> exists[2]{{true}, {false}};
    CheckedAtomic<int, AsWritten> table{0};

    void thread(unsigned index) {
        if (index == 0) {
            const typename With::Stay stay(pool.caches[0].lock);
            RL_ASSERT(exists[table.load(std::memory_order_acquire)].get());
            return;
        }
        exists[1].set(true);
        table.store(1, std::memory_order_release);
        const Held list(pool.list_mutex);
        pool.lock_all();
        pool.unlock_all();
        exists[0].set(false);
    }
};

} // namespace cuda_zstd::model
