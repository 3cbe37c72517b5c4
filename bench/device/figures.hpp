// SPDX-License-Identifier: MIT
// The benchmark's arithmetic, and how a figure is written.
// Invariant: plain functions of numbers, the same on every machine; tests/bench checks them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

namespace bench {

/// The middle value; of an even count, the mean of the two in the middle. `values` must not be empty.
inline double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2 != 0) return *middle;
    return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

/// The part of a heap's payload (heap less metadata) that `count` blocks of a class are.
inline double share(std::size_t count, std::size_t class_bytes, std::size_t payload_bytes) {
    return payload_bytes == 0
               ? 0.0
               : static_cast<double>(count) * static_cast<double>(class_bytes) / static_cast<double>(payload_bytes);
}

/// Addresses from the first to the end of the last block, over the blocks' own bytes: 1 when they lie side by side.
inline double spread(std::size_t lowest, std::size_t end, std::size_t payload_bytes) {
    return static_cast<double>(end - lowest) / static_cast<double>(payload_bytes);
}

/// A million pairs a second, from pairs and microseconds.
inline double mpairs_per_second(double pairs, double us) { return pairs / us; }

/// subject,case,metric,unit,value: one line of a result, without its end.
inline std::string row(const std::string& subject, const std::string& name, const char* metric, const char* unit,
                       double value) {
    char number[32];
    std::snprintf(number, sizeof number, "%.6g", value);
    return subject + ',' + name + ',' + metric + ',' + unit + ',' + number;
}

inline constexpr const char* csv_header = "subject,case,metric,unit,value";

} // namespace bench
