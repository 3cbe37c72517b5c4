// SPDX-License-Identifier: MIT
// Rounds of a case: how many there are, and what is made of their times.
#pragma once

#include "cases.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>
#include <vector>

namespace bench {

inline constexpr unsigned rounds = 7;

inline double ns_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
}

inline double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

/// Times rounds until there are enough or the time is over; the first one, which warms up, comes first of all.
template <class Round>
std::vector<double> timed_rounds(const Bench& bench, const Round& round) {
    std::vector<double> times;
    const auto begin = std::chrono::steady_clock::now();
    while (times.size() <= rounds && (times.size() < 2 || ns_since(begin) < bench.rounds_s * 1e9))
        times.push_back(round());
    return times;
}

inline double median_after_the_first(std::vector<double> times) {
    times.erase(times.begin());
    return median(std::move(times));
}

inline std::vector<Figure> time_ns(double value) { return {{"time", "ns", value}}; }

} // namespace bench
