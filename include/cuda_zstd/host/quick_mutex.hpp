// SPDX-License-Identifier: MIT
// A mutex whose way in and out, where nobody waits, is one atomic operation each and no call: about half the time of
// std::mutex, which a miss takes several times.
//
// Invariant: 0 is free, 1 held, 2 held and somebody may sleep; only the holder leaves 1 or 2, and who leaves 2 wakes
// one. (Drepper, "Futexes are tricky", 2011, its second mutex.)
#pragma once

#include <atomic>
#include <cstdint>

namespace cuda_zstd::detail {

class QuickMutex {
public:
    QuickMutex() = default;
    QuickMutex(const QuickMutex&) = delete;
    QuickMutex& operator=(const QuickMutex&) = delete;

    void lock() noexcept {
        std::uint32_t expected = 0;
        if (!word_.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed))
            [[unlikely]]
            sleep();
    }
    bool try_lock() noexcept {
        std::uint32_t expected = 0;
        return word_.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed);
    }
    void unlock() noexcept {
        if (word_.exchange(0, std::memory_order_release) == 2) [[unlikely]]
            word_.notify_one();
    }

private:
    /// Whoever comes in this way may not be the last that slept, so it says that there may be more.
    [[gnu::noinline]] void sleep() noexcept {
        while (word_.exchange(2, std::memory_order_acquire) != 0)
            word_.wait(2, std::memory_order_relaxed);
    }

    std::atomic<std::uint32_t> word_{0};
};

} // namespace cuda_zstd::detail
