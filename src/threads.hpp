// SPDX-License-Identifier: MIT
// What locks are made of: atomics, and the threads of this process. The model checker brings its own of both.
#pragma once

#include <x86intrin.h>

#include <atomic>
#include <thread>

namespace cuda_zstd::detail {

/// Makes process_barrier() possible, if the system can; to be called in a process before its first owned lock or gate
/// is used.
void prepare_process_barrier() noexcept;
/// Whether it can: the same from the first prepare_process_barrier() on.
extern constinit std::atomic<bool> process_barrier_works;
/// Every thread of the process passes a full memory barrier between the begin of the call and its end.
void process_barrier() noexcept;

struct ProcessThreads {
    template <class T>
    using Atomic = std::atomic<T>;

    static bool has_barrier() noexcept { return process_barrier_works.load(std::memory_order_relaxed); }
    static void barrier() noexcept { process_barrier(); }
    /// The compiler moves no access past it; the processor may.
    static void compiler_barrier() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }
    /// For who waits: after a while the processor is given up, too.
    static void pause(int tries) noexcept {
        if (tries < 128)
            _mm_pause();
        else
            std::this_thread::yield();
    }
    /// For who may wait long; whoever changes the value wakes it.
    template <class T>
    static void sleep_while(const Atomic<T>& word, T value) noexcept {
        while (word.load(std::memory_order_acquire) == value)
            word.wait(value, std::memory_order_relaxed);
    }
    /// After the word has changed.
    template <class T>
    static void wake(Atomic<T>& word) noexcept {
        // The library looks whether anybody sleeps, and may do so before the processor has stored the change.
        word.fetch_add(0, std::memory_order_seq_cst);
        word.notify_all();
    }
};

} // namespace cuda_zstd::detail
