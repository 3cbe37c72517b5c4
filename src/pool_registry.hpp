// SPDX-License-Identifier: MIT
// The pools of this process, so that one that finds no memory can ask the others for what they keep, and one that is
// given another's block can say whose it is.
//
// Invariant: a pool is asked only between its `enter` and `leave`, and by a thread that holds no lock of any pool: so a
// pool that asks and one that is asked cannot wait for each other. A child of fork() begins with an empty registry of
// its own: the parent's pools are nothing that it may ask, and who had the parent's lock is not there to release it.
#pragma once

#include "cuda_zstd/host/backend.hpp"

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace cuda_zstd::detail {

class PoolRegistry {
public:
    struct Entry {
        const void* pool = nullptr;
        const Backend* backend = nullptr;
        /// Unmaps what the pool does not need, and returns how many bytes that were.
        std::function<std::size_t()> give_back;
        /// What an address is to the pool; empty where it is none of its blocks'.
        std::function<std::string(const void*)> known_as;
    };
    /// Which of the others are asked.
    enum class Of { same_device, other_devices };

    /// Never destroyed: pools of static storage may end after it. Made without a lock, which a fork could find taken.
    static PoolRegistry& get() {
        PoolRegistry* present = present_.load(std::memory_order_acquire);
        if (present == nullptr) {
            auto made = std::make_unique<PoolRegistry>();
            if (present_.compare_exchange_strong(present, made.get(), std::memory_order_acq_rel,
                                                 std::memory_order_acquire))
                present = made.release();
        }
        return *present;
    }
    /// In a child, before it does anything else.
    static void forget_parents() noexcept {
        parents_.store(present_.exchange(nullptr, std::memory_order_relaxed), std::memory_order_relaxed);
    }

    void enter(Entry entry) {
        const std::lock_guard lock(mutex_);
        entries_.push_back(std::move(entry));
    }
    void leave(const void* pool) noexcept {
        const std::lock_guard lock(mutex_);
        std::erase_if(entries_, [&](const Entry& entry) { return entry.pool == pool; });
    }
    /// Bytes that pools other than `pool`, which is one of `backend`, have returned.
    std::size_t relieve(const void* pool, const Backend& backend, Of of) {
        const std::lock_guard lock(mutex_);
        std::size_t bytes = 0;
        for (const Entry& entry : entries_)
            if (entry.pool != pool && (entry.backend == &backend) == (of == Of::same_device))
                bytes += entry.give_back();
        return bytes;
    }
    /// Whose block an address is, if it is one of another pool than `pool`; else empty.
    std::string owner_of(const void* ptr, const void* pool) {
        const std::lock_guard lock(mutex_);
        for (const Entry& entry : entries_) {
            if (entry.pool == pool) continue;
            if (const std::string found = entry.known_as(ptr); !found.empty())
                return "the address belongs to another pool, of device " + std::to_string(entry.backend->device()) +
                       ", which alone can free it: " + found;
        }
        return {};
    }

private:
    static inline constinit std::atomic<PoolRegistry*> present_{nullptr};
    /// For nobody but who looks for leaks.
    static inline constinit std::atomic<PoolRegistry*> parents_{nullptr};
    std::mutex mutex_;
    std::vector<Entry> entries_;
};

} // namespace cuda_zstd::detail
