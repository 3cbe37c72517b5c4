// SPDX-License-Identifier: MIT
// The cases of the compaction benchmark.
//
// Invariant: a case makes its own pool, checks what the compactions left behind, and writes its rows; one that fails
// writes none.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace bench {

/// Writes one row of a case: metric, unit, value.
using Rows = std::function<void(const std::string& metric, const std::string& unit, double value)>;

struct CompactCase {
    std::string name;
    std::function<bool(const Rows&)> run;
};

/// Times of a compaction, what comes back of a heap that was full, and the reading of a report.
std::vector<CompactCase> heap_cases();
/// Compaction beside a kernel that allocates and frees.
std::vector<CompactCase> churn_cases();
/// Growth and trim beside the driver's own calls, and what relocation gives back.
std::vector<CompactCase> resize_cases();
/// A long run under changing sizes.
std::vector<CompactCase> drift_cases();

} // namespace bench
