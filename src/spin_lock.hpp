// SPDX-License-Identifier: MIT
// A lock for what one thread uses all the time and others now and then.
// Invariant: held for some tens of instructions, never across a call of a driver or another lock but its like. Taking
// it when nobody else wants it is one exchange on a line that the thread has already.
#pragma once

#include <x86intrin.h>

#include <atomic>
#include <thread>

namespace cuda_zstd::detail {

class SpinLock {
public:
    void lock() noexcept {
        while (taken_.exchange(true, std::memory_order_acquire))
            wait_while(taken_);
    }
    void unlock() noexcept { taken_.store(false, std::memory_order_release); }

    /// Whoever must end it may have lost its processor: after a while this one is given up, too.
    static void wait_while(const std::atomic<bool>& condition) noexcept {
        for (int tries = 0; condition.load(std::memory_order_acquire); ++tries) {
            if (tries < 128)
                _mm_pause();
            else
                std::this_thread::yield();
        }
    }

private:
    std::atomic<bool> taken_{false};
};

} // namespace cuda_zstd::detail
