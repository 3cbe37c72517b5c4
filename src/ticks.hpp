// SPDX-License-Identifier: MIT
// Time that costs a few nanoseconds to ask for.
// Invariant: ticks of one machine run forward at one rate; a tick of the past becomes nanoseconds of the steady clock
// that are not later than now. The rate is taken from the two clocks when it is asked for, so the first few
// milliseconds of a process are told with less precision.
#pragma once

#include "cuda_zstd/host/block_heap.hpp"

#include <x86intrin.h>

#include <cstdint>

namespace cuda_zstd::detail {

inline std::uint64_t ticks_now() noexcept { return __rdtsc(); }

/// The two clocks at one moment.
class TickScale {
public:
    /// Where both clocks stand when it is made.
    TickScale() noexcept : ticks_(ticks_now()), ns_(now_ns()) {}

    /// The steady clock's nanoseconds at a tick between the making of this scale and `until`.
    std::uint64_t ns_at(std::uint64_t ticks, const TickScale& until) const noexcept {
        if (ticks <= ticks_ || until.ticks_ <= ticks_) return ns_;
        if (ticks >= until.ticks_) return until.ns_;
        return ns_ +
               static_cast<std::uint64_t>(static_cast<double>(ticks - ticks_) * static_cast<double>(until.ns_ - ns_) /
                                          static_cast<double>(until.ticks_ - ticks_));
    }
    std::uint64_t ns() const noexcept { return ns_; }

private:
    std::uint64_t ticks_;
    std::uint64_t ns_;
};

} // namespace cuda_zstd::detail
