// SPDX-License-Identifier: MIT
// The benchmark's arithmetic, its choice of cells, and that a hang or a crash costs one cell.
#include "cases.hpp"
#include "cell_runner.hpp"
#include "figures.hpp"
#include "selection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>

namespace bench {
namespace {

TEST(Figures, MedianOfOddAndEvenCounts) {
    EXPECT_EQ(median({7}), 7);
    EXPECT_EQ(median({9, 1, 5}), 5);
    EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
    EXPECT_EQ(median({10, 0}), 5);
}

TEST(Figures, ShareSpreadAndRates) {
    EXPECT_DOUBLE_EQ(share(1000, 64, 128000), 0.5);
    EXPECT_EQ(share(1, 64, 0), 0);
    EXPECT_DOUBLE_EQ(spread(4096, 4096 + 640, 640), 1);
    EXPECT_DOUBLE_EQ(spread(0, 1280, 640), 2);
    EXPECT_DOUBLE_EQ(mpairs_per_second(5000000, 1000), 5000);
}

TEST(Figures, Row) {
    EXPECT_EQ(row("ours", "W1/1000000/64", "alloc", "us", 43.96812), "ours,W1/1000000/64,alloc,us,43.9681");
    EXPECT_EQ(row("cuda", "W4/100000", "pairs", "Mpairs/s", 2000000), "cuda,W4/100000,pairs,Mpairs/s,2e+06");
}

const Case& case_named(const std::vector<Case>& cases, const std::string& name) {
    const auto found = std::find_if(cases.begin(), cases.end(), [&](const Case& c) { return c.name == name; });
    EXPECT_NE(found, cases.end()) << name;
    return *found;
}

TEST(Cases, NamesAreUniqueAndTheNineAreThere) {
    const std::vector<Case> cases = all_cases();
    std::set<std::string> names;
    for (const Case& c : cases)
        EXPECT_TRUE(names.insert(c.name).second) << c.name;
    std::size_t named = 0;
    for (const Case& c : cases)
        named += c.selection == Selection::named;
    EXPECT_EQ(named, 9u);
    for (const char* const name : {"W1/1000000/64", "W2/100000/1024", "W3/100000/64", "W4/100000", "W5/1048576/64",
                                   "W7/512MiB/64", "W8/1024/1048576", "W9/90/4096", "W10/10000"})
        EXPECT_EQ(case_named(cases, name).selection, Selection::named) << name;
}

TEST(Cases, BlocksFitIntoTheirHeaps) {
    for (const Case& c : all_cases()) {
        if (c.workload == Workload::churn || c.workload == Workload::fill || c.workload == Workload::reuse ||
            c.workload == Workload::scratch || c.workload == Workload::init || c.workload == Workload::registers)
            continue;
        EXPECT_LE(std::size_t{c.count} * c.bytes, c.heap_bytes / 100 * 99) << c.name;
        EXPECT_GT(c.count, 0u) << c.name;
    }
}

Subject subject_named(const std::string& name, Role role, Processes processes = Processes::shared) {
    return {name,
            role,
            processes,
            1.0,
            [](const Case& c) { return c.workload != Workload::churn; },
            [](const Case&) { return true; }};
}

TEST(Selection, QuickTakesAllOfOursAndTheNineOfOthers) {
    const std::vector<Subject> subjects = {subject_named("ours", Role::ours),
                                           subject_named("peer", Role::other, Processes::one_a_cell)};
    const std::vector<Case> cases = all_cases();
    std::map<std::string, std::size_t> cells;
    for (const Group& group : select_groups(subjects, cases, {})) {
        cells[group.subject->name] += group.cells.size();
        for (const std::string& cell : group.cells)
            EXPECT_EQ(case_named(cases, cell).workload, case_named(cases, group.cells[0]).workload);
        if (group.subject->name == "peer") {
            EXPECT_EQ(group.cells.size(), 1u);
        }
    }
    EXPECT_EQ(cells["peer"], 8u) << "the nine less W4, which it does not have";
    EXPECT_EQ(cells["ours"], static_cast<std::size_t>(std::count_if(cases.begin(), cases.end(), [](const Case& c) {
                  return c.workload != Workload::churn;
              })));
}

TEST(Selection, TheFullExtentGoesOnWhereAResultEnds) {
    const std::vector<Subject> subjects = {subject_named("ours", Role::ours)};
    const std::vector<Case> cases = all_cases();
    Wanted wanted;
    wanted.extent = Extent::full;
    const std::size_t all = select_groups(subjects, cases, wanted).size();
    EXPECT_EQ(all, cases.size() - 1) << "each in its own process";
    std::istringstream csv("subject,case,metric,unit,value\nours,W1/10000/16,alloc,us,1\nours,W1/10000/16,free,us,1\n"
                           "ours,W2/10000/16,failed,text,hang\n");
    wanted.done_cells = cells_in(csv);
    EXPECT_EQ(wanted.done_cells.size(), 2u);
    EXPECT_EQ(select_groups(subjects, cases, wanted).size(), all - 2);
    wanted.words = {"W7/", "ours init"};
    for (const Group& group : select_groups(subjects, cases, wanted))
        EXPECT_TRUE(group.cells[0].starts_with("W7/") || group.cells[0] == "init/8GiB") << group.cells[0];
}

/// A program of the shell that is given the cells as its arguments.
std::vector<std::string> shell(const std::string& script) { return {"/bin/sh", "-c", script, "sh"}; }
const CellLimits patient{std::chrono::seconds(60), std::chrono::seconds(60)};

TEST(CellRunner, CollectsTheRowsOfEachCell) {
    const auto results = run_cells(shell("for c; do echo \"@begin $c\"; echo \"s,$c,m,u,1\"; echo \"s,$c,n,u,2\"; "
                                         "echo \"@end $c\"; done"),
                                   {"A/1", "B/2"}, patient);
    ASSERT_EQ(results.size(), 2u);
    EXPECT_EQ(results[0].rows, "s,A/1,m,u,1\ns,A/1,n,u,2\n");
    EXPECT_EQ(results[1].rows, "s,B/2,m,u,1\ns,B/2,n,u,2\n");
    EXPECT_EQ(results[0].error + results[1].error, "");
}

TEST(CellRunner, AHangCostsOneCell) {
    // The second cell hangs after its first row; its process is ended, and another goes on with the third.
    const auto results =
        run_cells(shell("for c; do echo \"@begin $c\"; echo \"s,$c,m,u,1\"; if [ $c = B ]; then exec sleep 600; fi; "
                        "echo \"@end $c\"; done"),
                  {"A", "B", "C"}, {std::chrono::seconds(4), std::chrono::seconds(60)});
    ASSERT_EQ(results.size(), 3u);
    EXPECT_EQ(results[1].error, "over 4 s");
    EXPECT_EQ(results[1].rows, "s,B,m,u,1\n") << "verified before the hang";
    EXPECT_EQ(results[2].name, "C");
    EXPECT_EQ(results[2].error, "");
}

TEST(CellRunner, ACrashCostsOneCell) {
    const auto results = run_cells(shell("for c; do echo \"@begin $c\"; if [ $c = A ]; then kill -SEGV $$; fi; "
                                         "if [ $c = B ]; then exit 3; fi; echo \"s,$c,m,u,1\"; echo \"@end $c\"; done"),
                                   {"A", "B", "C"}, patient);
    ASSERT_EQ(results.size(), 3u);
    EXPECT_EQ(results[0].error, "ended by signal 11");
    EXPECT_EQ(results[1].error, "exit code 3");
    EXPECT_EQ(results[2].rows, "s,C,m,u,1\n");
}

TEST(CellRunner, AProgramThatDoesNotStartFailsEachCell) {
    const auto results = run_cells({"/nonexistent/program"}, {"A", "B"}, patient);
    ASSERT_EQ(results.size(), 2u);
    EXPECT_EQ(results[0].error, "exit code 127");
    EXPECT_EQ(results[1].error, "exit code 127");
}

} // namespace
} // namespace bench
