// SPDX-License-Identifier: MIT
// Which cells a run of the device benchmark does, in which processes.
// Invariant: a cell is in at most one group; the cells of a group are of one subject and one workload.
#pragma once

#include "subject.hpp"

#include <istream>
#include <set>
#include <string>
#include <vector>

namespace bench {

/// The quick selection: ours and the floors in every case, other subjects in the nine that all have. The full one:
/// everything, each cell in a process of its own.
enum class Extent { quick, full };

struct Wanted {
    Extent extent = Extent::quick;
    std::vector<std::string> words;   ///< none, or the cell's "subject case" holds one of them
    std::set<std::string> done_cells; ///< "subject,case"
};

/// Cells of one subject that are run by one process.
struct Group {
    const Subject* subject;
    std::vector<std::string> cells;
};

/// The groups, workload by workload. The subjects must outlive them.
std::vector<Group> select_groups(const std::vector<Subject>& subjects, const std::vector<Case>& cases,
                                 const Wanted& wanted);

/// The cells ("subject,case") of which a result has a row.
std::set<std::string> cells_in(std::istream& csv);

} // namespace bench
