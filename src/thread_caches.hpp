// SPDX-License-Identifier: MIT
// The thread caches of one manager.
//
// Invariant: a thread has at most one cache in a manager, made by its first call and given up by its end; what the
// blocks in it are then is for the manager, if that still is. A thread finds the cache of the manager it used last by
// one comparison. Locks are taken in the order: turnstile, the list of caches, caches.
#pragma once

#include "thread_cache.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace cuda_zstd::detail {

class ThreadCaches {
public:
    /// `leave` is called with a cache whose thread ends, on that thread; it must not throw.
    ThreadCaches(std::size_t most_bytes_of_a_thread, std::function<void(ThreadCache&)> leave);
    /// After disconnect().
    ~ThreadCaches() = default;
    ThreadCaches(const ThreadCaches&) = delete;
    ThreadCaches& operator=(const ThreadCaches&) = delete;

    /// The calling thread's cache; null once the thread's own objects are being destroyed, without memory, and in a
    /// child of the process that made the manager.
    ThreadCache* mine() noexcept { return last_used_.manager == id_ ? last_used_.cache : look_up(); }
    /// The calling thread's next mine() looks for its cache.
    static void forget_thread() noexcept { last_used_ = {}; }
    /// Counts what no thread's cache can; its lock as theirs.
    ThreadCache& nobodys() noexcept { return nobodys_; }
    /// Threads that end from now on leave nothing; waits for those that are about it. First of all when a manager ends.
    void disconnect() noexcept;
    /// Adds a cache's counts to nobody's and forgets it.
    void merge(ThreadCache& cache);
    /// Bytes in all magazines.
    std::size_t cached_bytes() const;
    /// One after the other, with the list held.
    template <class Visit>
    void for_each(const Visit& visit) const {
        const std::lock_guard list(mutex_);
        for (const auto& cache : caches_)
            visit(*cache);
        visit(nobodys_);
    }

    /// Nobody allocates or frees in a cache, or makes one. The holder is alone behind the turnstile.
    class Closed {
    public:
        explicit Closed(const ThreadCaches& caches);
        ~Closed();
        Closed(const Closed&) = delete;
        Closed& operator=(const Closed&) = delete;
        template <class Visit>
        void for_each(const Visit& visit) const {
            for (const auto& cache : caches_.caches_)
                visit(*cache);
            visit(caches_.nobodys_);
        }

    private:
        const ThreadCaches& caches_;
        std::unique_lock<std::mutex> list_;
    };
    /// Returns when every thread that was in its cache has left it.
    void wait_for_owners() const;
    /// Requested bytes of all live blocks, at one moment.
    std::int64_t live_bytes() const;
    /// The sum of all counts at one moment.
    Tally total() const;

    CacheShared shared;

private:
    struct LastUsed {
        std::uint64_t manager = 0;
        ThreadCache* cache = nullptr;
    };
    struct Link;
    struct OfThread;

    ThreadCache* look_up() noexcept;
    void lock_all() const noexcept;
    void unlock_all() const noexcept;
    template <class Visit>
    void at_one_moment(const Visit& visit) const;

    static constinit thread_local LastUsed last_used_;
    const std::uint64_t id_;
    const unsigned generation_;
    const std::shared_ptr<Link> link_;
    mutable std::mutex mutex_;
    std::vector<std::unique_ptr<ThreadCache>> caches_;
    mutable ThreadCache nobodys_;
};

} // namespace cuda_zstd::detail
