// SPDX-License-Identifier: MIT
// Runs cells in processes of their own, so that a hang or a crash costs one cell.
//
// Invariant: a cell is begun at most once. A process is given one or more cells of one subject; it says on its standard
// output which cell it begins (`@begin CASE`) and ends (`@end CASE`), and prints rows between the two. A process that
// ends, or is ended because a cell ran past its time, loses that cell alone: the next process goes on behind it. Rows
// are printed by a cell only once they are verified, so those that came before a hang are kept.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace bench {

struct CellResult {
    std::string name;
    std::string rows;  ///< whole lines
    std::string error; ///< empty: the cell ended as it should
};

struct CellLimits {
    std::chrono::milliseconds cell;     ///< from its begin, or from its last sign of life
    std::chrono::milliseconds start_up; ///< what a process may take before its first cell, in addition
};

/// Runs `command` with the names of `cells` appended, as often as it takes, and returns a result for each of them.
std::vector<CellResult> run_cells(const std::vector<std::string>& command, const std::vector<std::string>& cells,
                                  const CellLimits& limits);

/// What a process prints around a cell.
std::string begin_mark(const std::string& cell);
std::string end_mark(const std::string& cell);

} // namespace bench
