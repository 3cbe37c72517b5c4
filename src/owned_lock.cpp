// SPDX-License-Identifier: MIT
#include "owned_lock.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

namespace cuda_zstd::detail {
namespace {

long membarrier(int command) noexcept { return syscall(SYS_membarrier, command, 0, 0); }

} // namespace

constinit std::atomic<bool> process_barrier_works{false};

void prepare_process_barrier() noexcept {
    // A child of fork() is registered as its parent was, and a second registration does nothing.
    static const bool works =
        membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
    process_barrier_works.store(works, std::memory_order_relaxed);
}

void process_barrier() noexcept {
    // It may want memory of the kernel's for a moment; there is no going on without it.
    while (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0)
        std::this_thread::yield();
}

} // namespace cuda_zstd::detail
