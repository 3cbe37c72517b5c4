// SPDX-License-Identifier: MIT
#include "thread_caches.hpp"

#include "fork_guard.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

namespace cuda_zstd::detail {
namespace {

/// Numbers of managers are not used again, so a thread never takes a dead manager's cache for another one's.
std::uint64_t next_manager() noexcept {
    static std::atomic<std::uint64_t> managers{0};
    return managers.fetch_add(1, std::memory_order_relaxed) + 1;
}

} // namespace

/// What ends last of a thread and a manager finds the other gone here.
struct ThreadCaches::Link {
    std::mutex mutex;
    ThreadCaches* caches = nullptr;
    std::function<void(ThreadCache&)> leave;
};

/// The caches of one thread.
struct ThreadCaches::OfThread {
    struct Entry {
        std::uint64_t manager = 0;
        ThreadCache* cache = nullptr;
        unsigned generation = 0;
        std::shared_ptr<Link> link;
    };
    std::vector<Entry> entries;

    /// Whether the calling thread's has been destroyed: other objects of the thread may still call the pool.
    static bool& ended() noexcept {
        static constinit thread_local bool value = false;
        return value;
    }
    static OfThread& get() {
        static thread_local OfThread mine;
        return mine;
    }
    ~OfThread() {
        ended() = true;
        last_used_ = {};
        for (const Entry& entry : entries) {
            // What was made before a fork is the parent's, its locks among it.
            if (is_forked_since(entry.generation)) continue;
            const std::lock_guard alive(entry.link->mutex);
            if (entry.link->caches != nullptr) entry.link->leave(*entry.cache);
        }
    }
};

constinit thread_local ThreadCaches::LastUsed ThreadCaches::last_used_;

ThreadCaches::ThreadCaches(std::size_t most_bytes_of_a_thread, std::function<void(ThreadCache&)> leave)
    : id_(next_manager()), generation_(fork_generation()), link_(std::make_shared<Link>()),
      nobodys_(shared, OwnedLock::Owner::nobody) {
    prepare_process_barrier();
    shared.most_bytes = most_bytes_of_a_thread;
    link_->caches = this;
    link_->leave = std::move(leave);
}

void ThreadCaches::disconnect() noexcept {
    const std::lock_guard alive(link_->mutex);
    link_->caches = nullptr;
}

ThreadCache* ThreadCaches::look_up() noexcept {
    if (OfThread::ended() || is_forked_since(generation_)) return nullptr;
    try {
        auto& entries = OfThread::get().entries;
        auto found = std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.manager == id_; });
        if (found == entries.end()) {
            // Those of managers that are gone go first.
            std::erase_if(entries, [](const OfThread::Entry& entry) {
                if (is_forked_since(entry.generation)) return false;
                const std::lock_guard alive(entry.link->mutex);
                return entry.link->caches == nullptr;
            });
            entries.reserve(entries.size() + 1);
            auto cache = std::make_unique<ThreadCache>(shared, OwnedLock::Owner::one_thread);
            const std::lock_guard list(mutex_);
            caches_.reserve(caches_.size() + 1);
            entries.push_back({id_, cache.get(), generation_, link_});
            caches_.push_back(std::move(cache));
            found = entries.end() - 1;
        }
        last_used_ = {id_, found->cache};
        return found->cache;
    } catch (const std::exception&) {
        return nullptr;
    }
}

void ThreadCaches::merge(ThreadCache& cache) {
    const std::lock_guard list(mutex_);
    {
        const std::lock_guard own(cache.lock());
        const std::lock_guard common(nobodys_.lock());
        cache.tally.publish(shared.published);
        nobodys_.tally.add(cache.tally);
        cache.leave_counts();
    }
    std::erase_if(caches_, [&](const auto& present) { return present.get() == &cache; });
}

std::size_t ThreadCaches::cached_bytes() const {
    std::size_t bytes = 0;
    for_each([&](const ThreadCache& cache) { bytes += cache.cached_bytes(); });
    return bytes;
}

ThreadCaches::Closed::Closed(const ThreadCaches& caches) : caches_(caches), list_(caches.mutex_) {
    caches_.lock_all();
    for_each([](ThreadCache& cache) { cache.close(); });
    caches_.unlock_all();
}

ThreadCaches::Closed::~Closed() {
    caches_.lock_all();
    for_each([](ThreadCache& cache) { cache.open(); });
    caches_.unlock_all();
}

/// With the list held.
void ThreadCaches::lock_all() const noexcept {
    bool needs_barrier = false;
    for (const auto& cache : caches_) {
        cache->lock().begin_lock();
        needs_barrier |= cache->lock().needs_barrier();
    }
    nobodys_.lock().begin_lock();
    if (needs_barrier) process_barrier();
    for (const auto& cache : caches_)
        cache->lock().end_lock();
    nobodys_.lock().end_lock();
}

void ThreadCaches::unlock_all() const noexcept {
    nobodys_.lock().unlock();
    for (const auto& cache : caches_)
        cache->lock().unlock();
}

template <class Visit>
void ThreadCaches::at_one_moment(const Visit& visit) const {
    const std::lock_guard list(mutex_);
    lock_all();
    for (const auto& cache : caches_)
        visit(*cache);
    visit(nobodys_);
    unlock_all();
}

void ThreadCaches::wait_for_owners() const {
    at_one_moment([](const ThreadCache&) {});
}

std::int64_t ThreadCaches::live_bytes() const {
    std::int64_t bytes = 0;
    at_one_moment([&](const ThreadCache& cache) { bytes += cache.tally.live_bytes; });
    return bytes;
}

Tally ThreadCaches::total() const {
    Tally sum;
    at_one_moment([&](const ThreadCache& cache) { sum.add(cache.tally); });
    return sum;
}

} // namespace cuda_zstd::detail
