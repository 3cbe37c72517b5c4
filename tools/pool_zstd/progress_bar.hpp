// SPDX-License-Identifier: MIT
// How far the program is, as a line of a terminal.
// Invariant: the line is never longer than the terminal is wide, so that drawing it again replaces all of it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace pool_zstd {

class ProgressBar {
public:
    /// `expected_bytes` of input; 0: not known.
    explicit ProgressBar(std::uint64_t expected_bytes);
    /// Draws the bar, a few times a second at most.
    void show(std::uint64_t done_bytes);

private:
    std::string line(std::uint64_t done_bytes, double megabytes_per_second, std::size_t columns) const;

    std::uint64_t expected_bytes_;
    std::chrono::steady_clock::time_point begin_;
    std::chrono::steady_clock::time_point last_drawn_;
};

} // namespace pool_zstd
