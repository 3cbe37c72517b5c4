// SPDX-License-Identifier: MIT
// A way in that one thread uses all the time, past somebody who wants now and then to be the only one inside.
//
// Invariant: the thread says that it is inside and then looks whether somebody wants to be alone, with plain loads and
// stores; who wants to be alone says so, makes every running thread of the process pass a memory barrier, and then
// looks whether the thread is inside. So one of the two sees the other, as in an owned lock; but the stay may be long,
// so who waits sleeps. The same holds for the way out: a thread that leaves sees who waits for it, or is seen to have
// left.
#pragma once

#include "threads.hpp"

#include <cstdint>

namespace cuda_zstd::detail {

template <class Threads>
class BasicOwnGate {
    template <class T>
    using Atomic = typename Threads::template Atomic<T>;

public:
    /// By the gate's thread: whether it is inside already.
    bool is_inside() const noexcept { return inside_.load(std::memory_order_relaxed) != 0; }
    /// By the gate's thread, from outside. False when `alone` says that somebody is alone or wants to be: then it is
    /// outside.
    bool enter(const Atomic<std::uint32_t>& alone) noexcept {
        inside_.store(1, std::memory_order_relaxed);
        // The processor may still load before it has stored: the other's barrier is for that.
        Threads::compiler_barrier();
        if (alone.load(std::memory_order_acquire) == 0) [[likely]]
            return true;
        leave(alone);
        return false;
    }
    void leave(const Atomic<std::uint32_t>& alone) noexcept {
        inside_.store(0, std::memory_order_release);
        Threads::compiler_barrier();
        if (alone.load(std::memory_order_relaxed) != 0) [[unlikely]]
            Threads::wake(inside_);
    }
    /// By who wants to be alone, after it has said so and all threads have passed a barrier.
    void wait_until_left() const noexcept { Threads::sleep_while(inside_, std::uint32_t{1}); }

private:
    Atomic<std::uint32_t> inside_{0};
};

using OwnGate = BasicOwnGate<ProcessThreads>;

} // namespace cuda_zstd::detail
