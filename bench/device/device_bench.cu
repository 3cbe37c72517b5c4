// SPDX-License-Identifier: MIT
// In-kernel allocation: ours, the floors and CUDA's own, in one harness.
//
//     device_bench [--csv FILE] [--match TEXT] [--seconds N]
//
// Each cell (a subject and a case) runs in a process of its own with a time limit, so that a hang costs one cell: the
// program starts itself with `--cell SUBJECT CASE`.
#include "bench_support.cuh"
#include "subjects/cuda_malloc.cuh"
#include "subjects/floors.cuh"
#include "subjects/pool.cuh"
#include "workloads.cuh"

#include <CLI/CLI.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

namespace bench {
namespace {

constexpr std::size_t gib = std::size_t{1} << 30;

struct Case {
    std::string name;
    char workload; ///< the digit of W1 to W9
    unsigned count;
    unsigned bytes;
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    auto add = [&](char workload, unsigned count, unsigned bytes, const std::string& name) {
        cases.push_back({"W" + std::string(1, workload) + "/" + name, workload, count, bytes});
    };
    for (const char workload : {'1', '2'})
        for (const unsigned count : {10000u, 100000u, 1000000u})
            for (const unsigned bytes : {16u, 64u, 256u, 1024u, 4096u, 8192u})
                add(workload, count, bytes, std::to_string(count) + "/" + std::to_string(bytes));
    for (const unsigned count : {10000u, 100000u})
        add('3', count, 64, std::to_string(count) + "/64");
    add('4', 100000, 0, "100000");
    for (const unsigned bytes : {64u, 1024u, 8192u})
        add('7', 0, bytes, "512MiB/" + std::to_string(bytes));
    return cases;
}

template <class Subject>
int run_case(const Case& c) {
    constexpr bool slow = std::is_same_v<Subject, CudaMallocSubject>;
    const unsigned iterations = slow ? 3 : 20;
    switch (c.workload) {
    case '1':
        return uniform<Subject>(c.name, 12 * gib, {c.count, c.bytes, 0, 1}, iterations);
    case '2':
        return uniform<Subject>(c.name, 12 * gib, {c.count, 0, c.bytes, 1}, iterations);
    case '3':
        return uniform<Subject>(c.name, 8 * gib, {c.count, c.bytes, 0, 32}, iterations);
    case '4':
        return Subject::frees ? churn<Subject>(c.name, 8 * gib, c.count, 50, iterations) : 0;
    case '7':
        return fill<Subject>(c.name, gib / 2, c.bytes);
    }
    return 2;
}

const std::vector<std::pair<const char*, std::function<int(const Case&)>>>& subjects() {
    static const std::vector<std::pair<const char*, std::function<int(const Case&)>>> all = {
        {PoolSubject::name, run_case<PoolSubject>},
        {BumpSubject<Bump::one>::name, run_case<BumpSubject<Bump::one>>},
        {BumpSubject<Bump::sm>::name, run_case<BumpSubject<Bump::sm>>},
        {BumpSubject<Bump::per_thread>::name, run_case<BumpSubject<Bump::per_thread>>},
        {CudaMallocSubject::name, run_case<CudaMallocSubject>},
    };
    return all;
}

/// What a cell printed; `error` is empty when it succeeded.
struct CellResult {
    std::string rows;
    std::string error;
};

CellResult run_cell(const char* subject, const std::string& name, double limit_seconds) {
    int ends[2];
    if (pipe(ends) != 0) return {"", "pipe failed"};
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        setenv("CUDA_ZSTD_POOL_MAX_SIZE", "17179869184", 1);
        execl("/proc/self/exe", "device_bench", "--cell", subject, name.c_str(), static_cast<char*>(nullptr));
        _exit(127);
    }
    close(ends[1]);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(limit_seconds);
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (std::chrono::steady_clock::now() > deadline) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            close(ends[0]);
            return {"", "over " + std::to_string(static_cast<int>(limit_seconds)) + " s"};
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    CellResult result;
    char buffer[4096];
    for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
        result.rows.append(buffer, got);
    close(ends[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) result.error = "failed";
    return result;
}

} // namespace
} // namespace bench

int main(int argc, char** argv) {
    using namespace bench;
    CLI::App app{"In-kernel allocation: ours, the floors and CUDA's own"};
    std::string csv;
    std::string match;
    double seconds = 10;
    std::vector<std::string> cell;
    app.add_option("--csv", csv, "write the rows to this file");
    app.add_option("--match", match, "only cells whose 'subject case' contains one of these words")->delimiter(',');
    app.add_option("--seconds", seconds, "time limit of a cell")->check(CLI::Range(1.0, 600.0));
    app.add_option("--cell", cell, "run one cell here: SUBJECT CASE")->expected(2);
    CLI11_PARSE(app, argc, argv);

    const std::vector<Case> cases = all_cases();
    if (!cell.empty()) {
        for (const auto& [subject, run] : subjects())
            for (const Case& c : cases)
                if (cell[0] == subject && cell[1] == c.name) return run(c);
        std::fprintf(stderr, "device_bench: no cell '%s %s'\n", cell[0].c_str(), cell[1].c_str());
        return 2;
    }
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::fprintf(stderr, "device_bench: no CUDA device\n");
        return 77;
    }
    std::ofstream file;
    if (!csv.empty()) file.open(csv);
    if (!csv.empty() && !file) {
        std::fprintf(stderr, "device_bench: cannot write %s\n", csv.c_str());
        return 1;
    }
    if (file) file << "subject,case,metric,unit,value\n";
    int failed = 0;
    for (const Case& c : cases) {
        for (const auto& [subject, run] : subjects()) {
            const std::string name = std::string(subject) + " " + c.name;
            if (name.find(match) == std::string::npos) continue;
            const CellResult result = run_cell(subject, c.name, seconds);
            std::fputs(result.rows.c_str(), stdout);
            if (file) file << result.rows << std::flush;
            if (!result.error.empty()) {
                std::fprintf(stderr, "device_bench: %s: %s\n", name.c_str(), result.error.c_str());
                failed += std::string(subject) == PoolSubject::name;
            }
        }
    }
    return failed == 0 ? 0 : 1;
}
