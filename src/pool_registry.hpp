// SPDX-License-Identifier: MIT
// The pools of this process, so that one that finds no memory can ask the others for what they keep.
//
// Invariant: a pool is asked only between its `enter` and `leave`, and by a thread that holds no lock of any pool: so a
// pool that asks and one that is asked cannot wait for each other.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

namespace cuda_zstd::detail {

class PoolRegistry {
public:
    static PoolRegistry& get() {
        // Never destroyed: pools of static storage may end after it.
        static PoolRegistry& registry = *new PoolRegistry;
        return registry;
    }

    /// `give_back` unmaps what the pool does not need, and returns how many bytes that were.
    void enter(const void* pool, std::function<std::size_t()> give_back) {
        const std::lock_guard lock(mutex_);
        pools_.emplace_back(pool, std::move(give_back));
    }
    void leave(const void* pool) noexcept {
        const std::lock_guard lock(mutex_);
        std::erase_if(pools_, [&](const auto& entry) { return entry.first == pool; });
    }
    /// Bytes that pools other than `pool` have returned.
    std::size_t relieve(const void* pool) {
        const std::lock_guard lock(mutex_);
        std::size_t bytes = 0;
        for (const auto& [other, give_back] : pools_)
            if (other != pool) bytes += give_back();
        return bytes;
    }

private:
    std::mutex mutex_;
    std::vector<std::pair<const void*, std::function<std::size_t()>>> pools_;
};

} // namespace cuda_zstd::detail
