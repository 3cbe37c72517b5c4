// SPDX-License-Identifier: MIT
// A launch that a test wants to fail.
// Invariant: without a test, one relaxed load a launch. The kernel itself has run when its launch is said to have
// failed, so a fault at launch n is a driver's refusal of launch n + 1.
#pragma once

#include <atomic>

namespace cuda_zstd::detail {

class LaunchFault {
public:
    /// The `at`-th launch from now on fails; 0: none does.
    void set(unsigned at) noexcept { left_.store(at, std::memory_order_relaxed); }
    bool is_due() noexcept {
        unsigned left = left_.load(std::memory_order_relaxed);
        while (left != 0 && !left_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) {
        }
        return left == 1;
    }
    bool is_set() const noexcept { return left_.load(std::memory_order_relaxed) != 0; }

private:
    std::atomic<unsigned> left_{0};
};

inline constinit LaunchFault launch_fault;

} // namespace cuda_zstd::detail
