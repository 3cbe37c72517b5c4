// SPDX-License-Identifier: MIT
// Lets many threads work side by side, or one alone.
//
// Invariant: whoever holds `alone` is the only one inside. A thread that passes uses the gate of its place, so threads
// side by side do not share a cache line. Of the places, 32 are one thread's each, from its first passage to its end:
// its way in and out is no atomic operation. A thread that finds none, one of a system without a barrier for all
// threads, and whoever finds that somebody wants to be alone take the mutex of a gate, shared. `alone` takes all
// mutexes, in order, and waits until the owners of places have left. Whoever comes meanwhile waits until it has ended,
// so that it is not starved by threads that share a gate. A passage within a passage is part of it, by a place; by a
// mutex it hangs when somebody wants to be alone.
#pragma once

#include "own_gate.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <shared_mutex>

namespace cuda_zstd::detail {

class Turnstile {
    struct Gate;

public:
    /// Also the number of threads that can own a place at a time.
    static constexpr std::size_t gate_count = 32;

    Turnstile() noexcept { prepare_process_barrier(); }

    /// Whether the calling thread has a place of its own.
    static bool owns_place() noexcept { return own_place() < gate_count; }

    class Passage {
    public:
        explicit Passage(Turnstile& turnstile) : turnstile_(turnstile) {
            const std::size_t place = own_place();
            if (place < gate_count && ProcessThreads::has_barrier()) [[likely]] {
                Gate& gate = turnstile.gates_[place];
                if (gate.own.is_inside()) [[unlikely]]
                    return;
                if (gate.own.enter(turnstile.alone_)) [[likely]] {
                    own_ = &gate.own;
                    return;
                }
            }
            shared_ = &turnstile.enter_shared();
        }
        ~Passage() {
            if (own_ != nullptr) [[likely]]
                own_->leave(turnstile_.alone_);
            else if (shared_ != nullptr)
                shared_->unlock_shared();
        }
        Passage(const Passage&) = delete;
        Passage& operator=(const Passage&) = delete;

    private:
        Turnstile& turnstile_;
        /// What is to be left: nothing, of a passage within another.
        OwnGate* own_ = nullptr;
        std::shared_mutex* shared_ = nullptr;
    };

    class Alone {
    public:
        explicit Alone(Turnstile& turnstile) : turnstile_(turnstile) {
            turnstile_.alone_.fetch_add(1, std::memory_order_relaxed);
            turnstile_.alone_mutex_.lock();
            for (Gate& gate : turnstile_.gates_)
                gate.mutex.lock();
            if (!ProcessThreads::has_barrier()) return;
            ProcessThreads::barrier();
            for (const Gate& gate : turnstile_.gates_)
                gate.own.wait_until_left();
        }
        ~Alone() {
            for (Gate& gate : turnstile_.gates_)
                gate.mutex.unlock();
            turnstile_.alone_.fetch_sub(1, std::memory_order_release);
            turnstile_.alone_mutex_.unlock();
        }
        Alone(const Alone&) = delete;
        Alone& operator=(const Alone&) = delete;

    private:
        Turnstile& turnstile_;
    };

private:
    struct alignas(64) Gate {
        OwnGate own;
        std::shared_mutex mutex;
    };
    /// The thread's own place; another number when it has none, also while it ends.
    static std::size_t own_place() noexcept { return place_ == not_asked ? claim_place() : place_; }
    static std::size_t claim_place() noexcept;
    std::shared_mutex& enter_shared();

    static constexpr std::size_t not_asked = gate_count + 1;
    static constinit thread_local std::size_t place_;

    std::array<Gate, gate_count> gates_;
    /// Those that are alone or wait to be.
    alignas(64) std::atomic<std::uint32_t> alone_{0};
    std::mutex alone_mutex_;
};

} // namespace cuda_zstd::detail
