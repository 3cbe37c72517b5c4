// SPDX-License-Identifier: MIT
// A lock for what one thread uses all the time and others now and then.
//
// Invariant: held for some tens of instructions, never across a call of a driver or another lock but its like. The
// owner says that it is inside and then looks whether anybody else wants in, with plain loads and stores: whoever else
// wants in says so and makes every running thread of the process pass a memory barrier (membarrier, Linux 4.14) before
// it looks whether the owner is inside. So either it sees the owner, or the owner sees it: Dekker's algorithm, with the
// price on the side that is rarely there (about 1 us and an interrupt of the process's other threads). Where the system
// has no such barrier, and for a lock without an owner, everybody takes a spin lock.
#pragma once

#include "spin_lock.hpp"
#include "threads.hpp"

#include <cstdint>

namespace cuda_zstd::detail {

template <class Threads>
class BasicOwnedLock {
    using SpinLock = BasicSpinLock<Threads>;
    using Flag = typename Threads::template Atomic<bool>;

public:
    enum class Owner : std::uint8_t { one_thread, nobody };
    explicit BasicOwnedLock(Owner owner) noexcept : owned_(owner == Owner::one_thread) {}

    bool is_owned() const noexcept { return owned_; }

    /// By the owner, where there is one.
    void enter() noexcept {
        if (!Threads::has_barrier()) [[unlikely]] {
            others_.lock();
            return;
        }
        for (;;) {
            inside_.store(true, std::memory_order_relaxed);
            // The processor may still load before it has stored: the others' barrier is for that.
            Threads::compiler_barrier();
            if (!wanted_.load(std::memory_order_acquire)) [[likely]]
                return;
            inside_.store(false, std::memory_order_release);
            SpinLock::wait_while(wanted_);
        }
    }
    void leave() noexcept {
        if (!Threads::has_barrier()) [[unlikely]]
            others_.unlock();
        else
            inside_.store(false, std::memory_order_release);
    }

    /// By anybody else.
    void lock() noexcept {
        begin_lock();
        if (needs_barrier()) Threads::barrier();
        end_lock();
    }
    void unlock() noexcept {
        wanted_.store(false, std::memory_order_release);
        others_.unlock();
    }
    // The same for many locks with one barrier: begin all, then the barrier if any needs it, then end all.
    void begin_lock() noexcept {
        others_.lock();
        wanted_.store(true, std::memory_order_relaxed);
    }
    bool needs_barrier() const noexcept { return owned_ && Threads::has_barrier(); }
    void end_lock() noexcept { SpinLock::wait_while(inside_); }

private:
    Flag inside_{false};
    Flag wanted_{false};
    const bool owned_;
    SpinLock others_;
};

/// The owner's stay inside; of a lock without an owner, an ordinary one.
template <class Threads>
class BasicOwnersStay {
public:
    enum class Known : std::uint8_t { nothing, owner };
    static constexpr Known known_owner = Known::owner;

    /// `known`: whether the lock has an owner is known, and need not be asked.
    explicit BasicOwnersStay(BasicOwnedLock<Threads>& lock, Known known = Known::nothing) noexcept
        : lock_(lock), known_(known) {
        if (known_ == Known::owner || lock_.is_owned())
            lock_.enter();
        else
            lock_.lock();
    }
    ~BasicOwnersStay() {
        if (known_ == Known::owner || lock_.is_owned())
            lock_.leave();
        else
            lock_.unlock();
    }
    BasicOwnersStay(const BasicOwnersStay&) = delete;
    BasicOwnersStay& operator=(const BasicOwnersStay&) = delete;

private:
    BasicOwnedLock<Threads>& lock_;
    const Known known_;
};

using OwnedLock = BasicOwnedLock<ProcessThreads>;
using OwnersStay = BasicOwnersStay<ProcessThreads>;

} // namespace cuda_zstd::detail
