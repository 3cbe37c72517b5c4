// SPDX-License-Identifier: MIT
// The magazines' hand-over as the model checker sees it: the pool's own locks and record words over atomics whose
// orders a test may weaken, and the steps of the thread caches over plain memory, whose races are reported.
#pragma once

#include "cuda_zstd/host/record_word.hpp"
#include "own_gate.hpp"
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
    /// Asleep until it is woken, whatever the word becomes meanwhile: to miss that is to hang.
    template <class T>
    static void sleep_while(const CheckedAtomic<T, Mutation>& word, T value) {
        if (word.load(std::memory_order_acquire) != value) return;
        while (word.load(std::memory_order_acquire) != woken)
            pause(0);
    }
    template <class T>
    static void wake(CheckedAtomic<T, Mutation>& word) {
        word.store(woken, std::memory_order_release);
    }
    static constexpr unsigned woken = 2;
};

/// What a suite is checked with: orders of the locks' flags, orders of the records' words, the system's barrier.
template <class Flags = AsWritten, class Words = AsWritten, Barrier barrier = Barrier::works>
struct Checked {
    using Threads = CheckedThreads<Flags, barrier>;
    using Word = detail::SharedWord<CheckedAtomic<std::uint64_t, Words>>;
    using Lock = detail::BasicOwnedLock<Threads>;
    using Stay = detail::BasicOwnersStay<Threads>;
    using Mutex = detail::BasicSpinLock<Threads>;
    using Gate = detail::BasicOwnGate<Threads>;
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

} // namespace cuda_zstd::model
