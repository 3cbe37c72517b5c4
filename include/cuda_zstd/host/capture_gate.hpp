// SPDX-License-Identifier: MIT
// Captures that are known to go on, and waits for a whole device, which the driver forbids beside them.
//
// Invariant: a wait begins only where no capture is counted, and an announcement returns only when no wait that began
// before it is under way. So of a capture that begins after its announcement and a wait, one comes after the other.
#pragma once

#include <atomic>
#include <cstdint>

namespace cuda_zstd::detail {

/// Members may be called from any thread.
class CaptureGate {
public:
    /// A capture is going to begin. Waits for the waits that are under way.
    void announce() noexcept {
        note();
        for (std::uint64_t word = word_.load(std::memory_order_acquire); word >= one_wait;
             word = word_.load(std::memory_order_acquire))
            word_.wait(word, std::memory_order_acquire);
    }
    /// A capture goes on that was not announced: it is too late to wait for anybody.
    void note() noexcept { word_.fetch_add(1, std::memory_order_acq_rel); }
    /// A capture that was counted is over.
    void end() noexcept { word_.fetch_sub(1, std::memory_order_acq_rel); }
    bool has_captures() const noexcept { return captures(word_.load(std::memory_order_acquire)) != 0; }

    /// False where a capture is counted; else until end_wait() none is announced.
    bool begin_wait() noexcept {
        std::uint64_t word = word_.load(std::memory_order_relaxed);
        do
            if (captures(word) != 0) return false;
        while (
            !word_.compare_exchange_weak(word, word + one_wait, std::memory_order_acq_rel, std::memory_order_relaxed));
        return true;
    }
    void end_wait() noexcept {
        if (captures(word_.fetch_sub(one_wait, std::memory_order_acq_rel)) != 0) word_.notify_all();
    }

private:
    static constexpr std::uint64_t one_wait = std::uint64_t{1} << 32;
    static constexpr std::uint64_t captures(std::uint64_t word) noexcept { return word % one_wait; }

    /// Captures, and above 32 bits the waits that are under way.
    std::atomic<std::uint64_t> word_{0};
};

} // namespace cuda_zstd::detail
