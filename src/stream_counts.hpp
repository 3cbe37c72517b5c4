// SPDX-License-Identifier: MIT
// What was counted of streams that no magazine counts for: those without one, and those whose magazine has another now.
//
// Invariant: counts are only added to. Streams are known by ids, which rise; when there are many, the older half is
// counted together, so that streams that come and go leave nothing behind that grows.
#pragma once

#include "spin_lock.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

namespace cuda_zstd::detail {

struct StreamCount {
    std::uint64_t allocations = 0;
    std::uint64_t misses = 0;
    std::uint64_t deallocations = 0;

    void add(const StreamCount& other) noexcept {
        allocations += other.allocations;
        misses += other.misses;
        deallocations += other.deallocations;
    }
    bool empty() const noexcept { return allocations == 0 && deallocations == 0; }
};

class StreamCounts {
public:
    static constexpr std::size_t most_streams = 1024;

    /// Without memory the count is lost, and nothing else.
    void add(std::uint64_t stream_id, const StreamCount& count) noexcept {
        const std::lock_guard lock(mutex_);
        try {
            counts_[stream_id].add(count);
        } catch (...) {
            return;
        }
        if (counts_.size() <= most_streams) return;
        const auto middle = std::next(counts_.begin(), static_cast<std::ptrdiff_t>(most_streams / 2));
        for (auto old = counts_.begin(); old != middle; old = counts_.erase(old))
            others_.add(old->second);
    }
    template <class Visit>
    void for_each(const Visit& visit) const {
        const std::lock_guard lock(mutex_);
        for (const auto& [id, count] : counts_)
            visit(id, count);
    }
    /// Of streams that are not told apart any more.
    StreamCount others() const {
        const std::lock_guard lock(mutex_);
        return others_;
    }

private:
    mutable SpinLock mutex_;
    std::map<std::uint64_t, StreamCount> counts_;
    StreamCount others_;
};

} // namespace cuda_zstd::detail
