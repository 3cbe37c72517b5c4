// SPDX-License-Identifier: MIT
// Lets many threads work side by side, or one alone.
//
// Invariant: whoever holds `alone` is the only one inside. A thread that passes takes one of 32 mutexes, its own as a
// rule, so threads side by side do not share a cache line; `alone` takes them all, in order. While one waits for
// that, nobody else comes in, so it is not starved by threads that share a gate; a thread passes once at a time.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <shared_mutex>

namespace cuda_zstd::detail {

class Turnstile {
public:
    /// Every so manieth thread, counted in the order of their first passages, has the same gate.
    static constexpr std::size_t gate_count = 32;

    class Passage {
    public:
        explicit Passage(Turnstile& turnstile) : lock_(behind_those_alone(turnstile).gates_[gate()].mutex) {}

    private:
        static Turnstile& behind_those_alone(Turnstile& turnstile) {
            if (turnstile.alone_.load(std::memory_order_relaxed) != 0)
                const std::lock_guard wait(turnstile.alone_mutex_);
            return turnstile;
        }
        std::shared_lock<std::shared_mutex> lock_;
    };

    class Alone {
    public:
        explicit Alone(Turnstile& turnstile) : turnstile_(turnstile) {
            turnstile_.alone_.fetch_add(1, std::memory_order_relaxed);
            turnstile_.alone_mutex_.lock();
            for (Gate& g : turnstile_.gates_)
                g.mutex.lock();
        }
        ~Alone() {
            for (Gate& g : turnstile_.gates_)
                g.mutex.unlock();
            turnstile_.alone_.fetch_sub(1, std::memory_order_relaxed);
            turnstile_.alone_mutex_.unlock();
        }
        Alone(const Alone&) = delete;
        Alone& operator=(const Alone&) = delete;

    private:
        Turnstile& turnstile_;
    };

private:
    struct alignas(64) Gate {
        std::shared_mutex mutex;
    };
    static std::size_t gate() noexcept {
        static std::atomic<std::size_t> threads{0};
        thread_local const std::size_t mine = threads.fetch_add(1, std::memory_order_relaxed) % gate_count;
        return mine;
    }

    std::array<Gate, gate_count> gates_;
    /// Those that are alone or wait to be.
    alignas(64) std::atomic<unsigned> alone_{0};
    std::mutex alone_mutex_;
};

} // namespace cuda_zstd::detail
