// SPDX-License-Identifier: MIT
// The device pools of a manager, by the addresses of their blocks.
//
// Invariant: the ranges of addresses are disjoint, and an owner is called only between its `add` and the end of its
// `remove`. Looked at only for an address that is no live block of the manager's own.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <shared_mutex>

namespace cuda_zstd::detail {

/// A device pool as the manager sees it.
class DeviceArenaOwner {
public:
    /// Frees a block of the pool's, or what should be one, in `stream` order.
    virtual void free_block(void* block, cudaStream_t stream) = 0;
    /// Launches the frees that are pending.
    virtual void launch_frees() = 0;

protected:
    ~DeviceArenaOwner() = default;
};

class DeviceArenas {
public:
    void add(const void* begin, std::size_t bytes, DeviceArenaOwner& owner) {
        const std::unique_lock lock(mutex_);
        const auto* const first = static_cast<const std::byte*>(begin);
        owners_.insert_or_assign(first, Entry{first + bytes, &owner});
    }
    void remove(const void* begin) {
        const std::unique_lock lock(mutex_);
        owners_.erase(static_cast<const std::byte*>(begin));
    }
    std::size_t count() const {
        const std::shared_lock lock(mutex_);
        return owners_.size();
    }
    /// Hands the free of an address that lies in a pool to the pool. False when it lies in none.
    bool free_block(void* block, cudaStream_t stream) const {
        const std::shared_lock lock(mutex_);
        const auto* const address = static_cast<const std::byte*>(block);
        auto behind = owners_.upper_bound(address);
        if (behind == owners_.begin()) return false;
        const Entry& entry = std::prev(behind)->second;
        if (address >= entry.end) return false;
        entry.owner->free_block(block, stream);
        return true;
    }
    void launch_frees() const {
        const std::shared_lock lock(mutex_);
        for (const auto& [begin, entry] : owners_)
            entry.owner->launch_frees();
    }

private:
    struct Entry {
        const std::byte* end;
        DeviceArenaOwner* owner;
    };
    mutable std::shared_mutex mutex_;
    std::map<const std::byte*, Entry> owners_;
};

} // namespace cuda_zstd::detail
