// SPDX-License-Identifier: MIT
#include "selection.hpp"

#include "figures.hpp"

#include <algorithm>

namespace bench {
namespace {

std::vector<Subject>& registry() {
    static std::vector<Subject> all;
    return all;
}

bool is_wanted(const Subject& subject, const Case& c, const Wanted& wanted) {
    if (!subject.has(c) || wanted.done_cells.contains(subject.name + ',' + c.name)) return false;
    if (wanted.extent == Extent::quick && subject.role == Role::other && c.selection != Selection::named) return false;
    const std::string cell = subject.name + ' ' + c.name;
    return wanted.words.empty() || std::any_of(wanted.words.begin(), wanted.words.end(), [&](const std::string& word) {
               return cell.find(word) != std::string::npos;
           });
}

} // namespace

std::vector<Subject> subjects() {
    std::vector<Subject> all = registry();
    std::sort(all.begin(), all.end(),
              [](const Subject& a, const Subject& b) { return a.role != b.role ? a.role < b.role : a.name < b.name; });
    return all;
}

void add_subject(Subject subject) { registry().push_back(std::move(subject)); }

std::vector<Group> select_groups(const std::vector<Subject>& subjects, const std::vector<Case>& cases,
                                 const Wanted& wanted) {
    std::vector<Group> groups;
    for (auto first = cases.begin(); first != cases.end();) {
        const auto last =
            std::find_if(first, cases.end(), [&](const Case& c) { return c.workload != first->workload; });
        for (const Subject& subject : subjects) {
            const bool alone = wanted.extent == Extent::full || subject.processes == Processes::one_a_cell;
            bool open = false;
            for (auto c = first; c != last; ++c) {
                if (!is_wanted(subject, *c, wanted)) continue;
                if (!open || alone) groups.push_back({&subject, {}});
                open = true;
                groups.back().cells.push_back(c->name);
            }
        }
        first = last;
    }
    return groups;
}

std::set<std::string> cells_in(std::istream& csv) {
    std::set<std::string> cells;
    for (std::string line; std::getline(csv, line);) {
        const std::size_t comma = line.find(',');
        const std::size_t end = comma == std::string::npos ? comma : line.find(',', comma + 1);
        if (end != std::string::npos && line != csv_header) cells.insert(line.substr(0, end));
    }
    return cells;
}

} // namespace bench
