// SPDX-License-Identifier: MIT
// Whether this process is the one in which something was made.
// Invariant: the generation is the same all through a process and another one in each process that fork() makes of it.
// A child has none of the parent's threads, locks in whatever state, and a driver that refuses it: what was made before
// the fork may be used by the parent only.
#pragma once

#include <atomic>

namespace cuda_zstd::detail {

/// No fewer than 1, once fork_generation() was called.
extern constinit std::atomic<unsigned> current_generation;

/// Of this process. The first call sees to it that children count on.
unsigned fork_generation();
inline bool is_forked_since(unsigned generation) noexcept {
    return current_generation.load(std::memory_order_relaxed) != generation;
}
/// Throws `usage_error` naming what was made before a fork.
[[noreturn]] void refuse_after_fork(const char* what);

} // namespace cuda_zstd::detail
