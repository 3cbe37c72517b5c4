// SPDX-License-Identifier: MIT
// A subject of the device benchmark as the harness sees it: which cases it has, and how to run one.
// Invariant: plain C++; what a subject is to the kernels is in subjects.cuh.
#pragma once

#include "cases.hpp"

#include <functional>
#include <string>
#include <vector>

namespace bench {

/// What a subject is in the comparison: the pool; a floor, which frees nothing; or an allocator beside it.
enum class Role { ours, floor, other };

/// Whether cells of a subject may follow one another in a process.
enum class Processes { shared, one_a_cell };

struct Subject {
    std::string name;
    Role role;
    Processes processes;
    double limit_seconds; ///< of a cell
    std::function<bool(const Case&)> has;
    /// Runs the case here and prints its rows; false when it failed, which was said on standard error.
    std::function<bool(const Case&)> run;
};

/// The subjects that are linked in, each registered by its own file; ours first, then floors, each by name.
std::vector<Subject> subjects();

/// For subjects.cuh.
void add_subject(Subject subject);

} // namespace bench
