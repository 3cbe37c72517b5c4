// SPDX-License-Identifier: MIT
// A lock for what one thread uses all the time and others now and then.
// Invariant: held for some tens of instructions, never across a call of a driver or another lock but its like. Taking
// it when nobody else wants it is one exchange on a line that the thread has already.
#pragma once

#include "threads.hpp"

namespace cuda_zstd::detail {

template <class Threads>
class BasicSpinLock {
    using Flag = typename Threads::template Atomic<bool>;

public:
    void lock() noexcept {
        while (taken_.exchange(true, std::memory_order_acquire))
            wait_while(taken_);
    }
    void unlock() noexcept { taken_.store(false, std::memory_order_release); }

    /// Whoever must end it may have lost its processor: after a while this one is given up, too.
    static void wait_while(const Flag& condition) noexcept {
        for (int tries = 0; condition.load(std::memory_order_acquire); ++tries)
            Threads::pause(tries);
    }

private:
    Flag taken_{false};
};

using SpinLock = BasicSpinLock<ProcessThreads>;

} // namespace cuda_zstd::detail
