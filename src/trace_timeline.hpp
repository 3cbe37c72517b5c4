// SPDX-License-Identifier: MIT
// Counters whose samples come later than what they tell of.
// Invariant: samples carry their own times, of the steady clock, and are given to a tool in batches that are in order.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace cuda_zstd::detail {

class NvtxTimeline {
public:
    /// `unit` is "bytes", or "1" for a number.
    NvtxTimeline(const std::string& name, const char* unit);
    /// Whether a tool takes it.
    bool wanted() const noexcept { return counter_ != 0; }
    void submit(std::span<const std::int64_t> values, std::span<const std::int64_t> times_ns) const noexcept;

private:
    std::uint64_t counter_ = 0;
};

} // namespace cuda_zstd::detail
