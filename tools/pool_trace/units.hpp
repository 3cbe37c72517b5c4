// SPDX-License-Identifier: MIT
// Units in which the program speaks.
#pragma once

#include <bit>
#include <cstdint>

namespace pool_trace {

inline double mebibytes(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

/// The power of two that a value is rounded up to: its logarithm.
inline unsigned power_of_two(std::uint64_t value) {
    return value <= 1 ? 0 : static_cast<unsigned>(std::bit_width(value - 1));
}

inline double percent(std::uint64_t part, std::uint64_t whole) {
    return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

} // namespace pool_trace
