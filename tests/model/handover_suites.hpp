// SPDX-License-Identifier: MIT
// Programs over the magazines' hand-over for the model checker: blocks go from a thread's cache to the caller, to other
// threads and to the pools, and caches end. The locks, the records' words and their orders are the pool's own; what
// they guard is modelled as plain memory, so that an access that they do not order is reported.
#pragma once

#include "cuda_zstd/host/record_word.hpp"
#include "owned_lock.hpp"

#include "model_check.hpp"

namespace cuda_zstd::model {

using detail::RecordWord;

/// An atomic of the C++ library as the checker sees it. `Mutation` weakens its orders.
template <class T, class Mutation>
class CheckedAtomic {
public:
    CheckedAtomic(T initial) : cell_(initial) {}

    T load(std::memory_order order, ModelSite site = ModelSite::here()) const {
        return cell_.load(weakened(Access::load, order, site), site);
    }
    void store(T value, std::memory_order order, ModelSite site = ModelSite::here()) {
        cell_.store(value, weakened(Access::store, order, site), site);
    }
    T exchange(T value, std::memory_order order, ModelSite site = ModelSite::here()) {
        return cell_.exchange(value, weakened(Access::exchange, order, site), site);
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order order, std::memory_order,
                                 ModelSite site = ModelSite::here()) {
        return cell_.compare_exchange_strong(expected, desired, weakened(Access::compare_exchange, order, site), site,
                                             rl::mo_relaxed, site);
    }

private:
    static rl::memory_order weakened(Access access, std::memory_order order, ModelSite site) {
        const Order asked = order == std::memory_order_acquire   ? Order::acquire
                            : order == std::memory_order_release ? Order::release
                                                                 : Order::relaxed;
        switch (Mutation::order_of(access, asked, site)) {
        case Order::acquire:
            return rl::mo_acquire;
        case Order::release:
            return rl::mo_release;
        default:
            return rl::mo_relaxed;
        }
    }

    mutable rl::atomic<T> cell_;
};

/// Whether the system makes all threads pass a barrier; `ineffective`, a fault: it says so, and does not.
enum class Barrier : unsigned char { works, is_missing, ineffective };

template <class Mutation, Barrier barrier_is>
struct CheckedThreads {
    template <class T>
    using Atomic = CheckedAtomic<T, Mutation>;

    static bool has_barrier() { return barrier_is != Barrier::is_missing; }
    static void barrier() {
        if (barrier_is == Barrier::works) rl::systemwide_fence(ModelSite::here());
    }
    static void compiler_barrier() {}
    static void pause(int) { rl::yield(1, ModelSite::here()); }
};

/// What a suite is checked with: orders of the locks' flags, orders of the records' words, the system's barrier.
template <class Flags = AsWritten, class Words = AsWritten, Barrier barrier = Barrier::works>
struct Checked {
    using Threads = CheckedThreads<Flags, barrier>;
    using Word = detail::SharedWord<CheckedAtomic<std::uint64_t, Words>>;
    using Lock = detail::BasicOwnedLock<Threads>;
    using Stay = detail::BasicOwnersStay<Threads>;
    using Mutex = detail::BasicSpinLock<Threads>;
};

/// Memory that is not atomic.
template <class T>
class Plain {
public:
    Plain(T initial) { set(initial); }
    T get(ModelSite site = ModelSite::here()) { return cell_(site).load(); }
    void set(T value, ModelSite site = ModelSite::here()) { cell_(site).store(value); }

private:
    rl::var<T> cell_;
};

/// Taken by its scope.
template <class Lock>
class Held {
public:
    explicit Held(Lock& lock) : lock_(lock) { lock_.lock(); }
    ~Held() { lock_.unlock(); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

private:
    Lock& lock_;
};

inline constexpr int none = -1;
inline constexpr int block_count = 2;

/// Blocks with their records, a pool of them, and the caches of the threads: the steps of ThreadCache, and of the
/// manager between the magazines and the pools.
template <class With, int Caches>
struct ModelPool {
    using State = RecordWord::State;

    struct Record : With::Word {
        Plain<int> next{none};
        /// What belongs to whoever has the block: the record's other members.
        Plain<int> fields{0};
        /// The block's memory, where the caller orders its own accesses.
        Plain<int> bytes{0};
    };
    /// Linked by `next`.
    struct List {
        Plain<int> head{none};
        void push(ModelPool& pool, int block) {
            pool.records[block].next.set(head.get());
            head.set(block);
        }
        int pop(ModelPool& pool) {
            const int block = head.get();
            if (block != none) head.set(pool.records[block].next.get());
            return block;
        }
    };
    struct Cache {
        typename With::Lock lock{With::Lock::Owner::one_thread};
        List magazine;
        Plain<bool> closed{false};
        /// Read by who uses the cache, written when it is destroyed.
        Plain<bool> exists{true};
    };

    Record records[block_count];
    Cache caches[Caches];
    typename With::Mutex list_mutex;
    bool listed[Caches];
    typename With::Mutex pool_mutex;
    List free;
    std::uint64_t last_number[Caches] = {};

    ModelPool() {
        for (bool& is_listed : listed)
            is_listed = true;
    }
    void give_to_pool(int block) {
        const Held lock(pool_mutex);
        free.push(*this, block);
    }
    void cache_block(int cache, int block) {
        records[block].publish(records[block].word().plain(State::cached));
        caches[cache].magazine.push(*this, block);
    }

    /// A hit.
    int allocate(int thread) {
        Cache& cache = caches[thread];
        const typename With::Stay stay(cache.lock);
        if (cache.closed.get()) return none;
        const int block = cache.magazine.pop(*this);
        if (block != none) begin(block, thread, RecordWord::returning_mark);
        return block;
    }
    /// A miss.
    int allocate_from_pool(int thread) {
        int block = none;
        {
            const Held lock(pool_mutex);
            block = free.pop(*this);
        }
        if (block == none) return none;
        records[block].publish(records[block].word().plain(State::claimed));
        const typename With::Stay stay(caches[thread].lock);
        begin(block, thread, 0);
        return block;
    }
    /// A free into the thread's magazine; false where it belongs to the pools, or the block is not live.
    bool deallocate(int thread, int block) {
        Cache& cache = caches[thread];
        const typename With::Stay stay(cache.lock);
        if (cache.closed.get()) return false;
        const RecordWord word = claim(block);
        if (word.state() != State::claimed) return false;
        if (!word.is_returning()) {
            records[block].publish(word.with(State::live));
            return false;
        }
        (void)records[block].fields.get();
        cache.magazine.push(*this, block);
        records[block].publish(word.with(State::cached));
        return true;
    }
    /// A free into the pool; false where the block is not live.
    bool deallocate_to_pool(int block) {
        if (claim(block).state() != State::claimed) return false;
        retire(block);
        return true;
    }
    bool free_block(int thread, int block) { return deallocate(thread, block) || deallocate_to_pool(block); }

    /// Brings a cache's blocks to the pool, by another thread or by one that ends.
    void collect(int of) {
        Cache& cache = caches[of];
        int leaving[block_count];
        int count = 0;
        {
            const Held lock(cache.lock);
            RL_ASSERT(cache.exists.get());
            for (int block = cache.magazine.pop(*this); block != none; block = cache.magazine.pop(*this))
                leaving[count++] = block;
        }
        while (count != 0)
            retire(leaving[--count]);
    }
    /// All caches that there are.
    void collect_all() {
        const Held list(list_mutex);
        for (int cache = 0; cache < Caches; ++cache)
            if (listed[cache]) collect(cache);
    }
    /// The thread ends.
    void leave(int thread) {
        collect(thread);
        const Held list(list_mutex);
        { const Held lock(caches[thread].lock); }
        caches[thread].exists.set(false);
        listed[thread] = false;
    }
    /// With the list held: one barrier for all.
    void lock_all() {
        bool needs_barrier = false;
        for (Cache& cache : caches) {
            cache.lock.begin_lock();
            needs_barrier |= cache.lock.needs_barrier();
        }
        if (needs_barrier) With::Threads::barrier();
        for (Cache& cache : caches)
            cache.lock.end_lock();
    }
    void unlock_all() {
        for (Cache& cache : caches)
            cache.lock.unlock();
    }
    void set_closed(bool closed) {
        lock_all();
        for (Cache& cache : caches)
            cache.closed.set(closed);
        unlock_all();
    }

    /// At the end: each block is in one place, but for so many that callers have.
    void expect_all_but(int held) {
        int seen[block_count] = {};
        const auto count = [&](List& list) {
            for (int block = list.pop(*this); block != none; block = list.pop(*this))
                ++seen[block];
        };
        count(free);
        for (Cache& cache : caches)
            count(cache.magazine);
        int lost = 0;
        for (const int times : seen) {
            RL_ASSERT(times <= 1);
            lost += times == 0;
        }
        RL_ASSERT(lost == held);
    }

private:
    RecordWord claim(int block) {
        return records[block].claim_if(State::live, [](RecordWord) { return true; });
    }
    void begin(int block, int thread, std::uint64_t marks) {
        Record& record = records[block];
        record.fields.set(thread);
        const std::uint64_t number = 2 * ++last_number[thread] + static_cast<std::uint64_t>(thread);
        record.publish(record.word().renewed(State::live, number, PoolKind::small, marks));
    }
    void retire(int block) {
        (void)records[block].fields.get();
        records[block].fields.set(none);
        records[block].publish(records[block].word().plain(State::absent));
        give_to_pool(block);
    }
};

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
