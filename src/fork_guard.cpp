// SPDX-License-Identifier: MIT
#include "fork_guard.hpp"

#include "cuda_zstd/host/error.hpp"
#include "pool_registry.hpp"
#include "thread_caches.hpp"

#include <pthread.h>

#include <atomic>
#include <new>
#include <string>

namespace cuda_zstd::detail {

constinit std::atomic<unsigned> current_generation{1};

unsigned fork_generation() {
    // No lock, which a child could find taken: it does no harm if two threads see to it.
    static constinit std::atomic<bool> is_watching{false};
    if (!is_watching.load(std::memory_order_acquire)) {
        const auto in_child = [] {
            current_generation.fetch_add(1, std::memory_order_relaxed);
            // The thread that is left must not find its cache, nor the other pools.
            ThreadCaches::forget_thread();
            PoolRegistry::forget_parents();
        };
        if (pthread_atfork(nullptr, nullptr, in_child) != 0) throw std::bad_alloc();
        is_watching.store(true, std::memory_order_release);
    }
    return current_generation.load(std::memory_order_relaxed);
}

void refuse_after_fork(const char* what) {
    throw usage_error(
        std::string(what) +
        " was made before fork() and is used in the child, which has neither its threads nor the driver's "
        "context: use it in the parent, or make it after the fork (after exec, where CUDA is to be used)");
}

} // namespace cuda_zstd::detail
