// SPDX-License-Identifier: MIT
// Time that costs a few nanoseconds to ask for.
// Invariant: nanoseconds of the steady clock at the system's last tick, some milliseconds ago, never ahead. Read from
// a page that the kernel shares: the processor's counter, which is finer, is the longest step of a hit where machines
// are virtual.
#pragma once

#include <cstdint>
#include <ctime>

namespace cuda_zstd::detail {

inline std::uint64_t coarse_now_ns() noexcept {
    std::timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

} // namespace cuda_zstd::detail
