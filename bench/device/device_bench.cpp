// SPDX-License-Identifier: MIT
// In-kernel allocation: ours, floors and other allocators, in one harness. cases.hpp says what each workload does.
//
//     device_bench [--csv FILE] [--match TEXT,...] [--survey] [--stop-after SECONDS] [--list]
//
// The program starts itself again for the cells (`--subject NAME --cells CASE...`), see cell_runner.hpp.
//
// Budget, estimated for an H100: a process takes about 0.7 s to start, warm up and end; a cell of ours or of a floor
// 0.05 to 0.5 s (heap, 21 iterations, a graph, whole blocks written and verified three times); a cell of another
// allocator up to 5 s of iterations. Quick: 284 cells in 44 processes, 44 x 0.7 s + 260 x 0.15
// s
// + 9 x 3 s, about 100 s. Survey: 451 cells in as many processes, about 10 minutes.
#include "cell_runner.hpp"
#include "measure.hpp"
#include "selection.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <fstream>

namespace {

using namespace bench;

constexpr int no_device = 77, not_finished = 75;

/// Runs the cells here, one after the other.
int run_here(const std::string& name, const std::vector<std::string>& cells) {
    warm_up();
    for (const Subject& subject : subjects()) {
        if (subject.name != name) continue;
        for (const Case& c : all_cases()) {
            if (std::find(cells.begin(), cells.end(), c.name) == cells.end()) continue;
            std::printf("%s\n", begin_mark(c.name).c_str());
            std::fflush(stdout);
            if (!subject.run(c)) return 1; // what it left behind is of no use to the next one
            std::printf("%s\n", end_mark(c.name).c_str());
            std::fflush(stdout);
        }
        return 0;
    }
    std::fprintf(stderr, "device_bench: no subject '%s'\n", name.c_str());
    return 2;
}

struct Arguments {
    std::string csv;
    Wanted wanted;
    double stop_after_seconds = 0;
    bool list = false;
    std::string subject;
    std::vector<std::string> cells;
};

/// Runs the groups and writes their rows. Cells that failed are said on standard error, and have no (further) rows.
int run_groups(const std::vector<Group>& groups, const Arguments& arguments, std::ofstream& file) {
    using std::chrono::duration, std::chrono::duration_cast, std::chrono::milliseconds;
    const auto begin = std::chrono::steady_clock::now();
    int failed = 0;
    for (const Group& group : groups) {
        if (arguments.stop_after_seconds > 0 &&
            std::chrono::steady_clock::now() - begin > duration<double>(arguments.stop_after_seconds)) {
            std::fprintf(stderr, "device_bench: the time is over; call again to go on\n");
            return not_finished;
        }
        const CellLimits limits{duration_cast<milliseconds>(duration<double>(group.subject->limit_seconds)),
                                milliseconds(20000)};
        const std::vector<std::string> command = {"/proc/self/exe", "--subject", group.subject->name, "--cells"};
        for (const CellResult& result : run_cells(command, group.cells, limits)) {
            std::fputs(result.rows.c_str(), stdout);
            std::fflush(stdout);
            if (file.is_open()) {
                // So that a survey does not begin with it again.
                if (arguments.wanted.extent == Extent::full && !result.error.empty())
                    file << group.subject->name << ',' << result.name << ",failed,text,"
                         << (result.error.starts_with("over") ? "hang" : "error") << '\n';
                file << result.rows << std::flush;
            }
            if (result.error.empty()) continue;
            std::fprintf(stderr, "device_bench: %s %s: %s\n", group.subject->name.c_str(), result.name.c_str(),
                         result.error.c_str());
            if (group.subject->role == Role::ours) ++failed;
        }
    }
    return failed == 0 ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"In-kernel allocation: ours, floors and other allocators"};
    Arguments arguments;
    bool survey = false;
    app.add_option("--csv", arguments.csv, "write the rows to this file");
    app.add_option("--match", arguments.wanted.words, "only cells whose 'subject case' contains one of these")
        ->delimiter(',');
    app.add_flag("--survey", survey, "the full grid, a process a cell; goes on where FILE ends");
    app.add_option("--stop-after", arguments.stop_after_seconds, "seconds after which no cell is begun; exit code 75");
    app.add_flag("--list", arguments.list, "print the cells, a line for each process, and run nothing");
    app.add_option("--subject", arguments.subject, "with --cells: run them here")->group("");
    app.add_option("--cells", arguments.cells)->group("");
    CLI11_PARSE(app, argc, argv);

    if (!arguments.subject.empty()) return run_here(arguments.subject, arguments.cells);
    if (survey) {
        arguments.wanted.extent = Extent::full;
        std::ifstream before(arguments.csv);
        arguments.wanted.done_cells = cells_in(before);
    }
    const std::vector<Subject> all = subjects();
    const std::vector<Group> groups = select_groups(all, all_cases(), arguments.wanted);
    if (arguments.list) {
        std::size_t cells = 0;
        for (const Group& group : groups) {
            std::printf("%s", group.subject->name.c_str());
            for (const std::string& cell : group.cells)
                std::printf(" %s", cell.c_str());
            std::printf("\n");
            cells += group.cells.size();
        }
        std::printf("%zu cells in %zu processes\n", cells, groups.size());
        return 0;
    }
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::fprintf(stderr, "device_bench: no CUDA device\n");
        return no_device;
    }
    std::ofstream file;
    if (!arguments.csv.empty()) {
        const bool goes_on = !arguments.wanted.done_cells.empty();
        file.open(arguments.csv, goes_on ? std::ios::app : std::ios::trunc);
        if (!file) {
            std::fprintf(stderr, "device_bench: cannot write %s\n", arguments.csv.c_str());
            return 1;
        }
        if (!goes_on) file << csv_header << '\n' << std::flush;
    }
    // W8 takes 20 GiB, which is more than the pool's default.
    setenv("CUDA_ZSTD_POOL_MAX_SIZE", "34359738368", 0);
    return run_groups(groups, arguments, file);
}
