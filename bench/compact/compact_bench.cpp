// SPDX-License-Identifier: MIT
// Compaction of device pools: how long it takes, what it costs the kernels beside it, and what comes back.
//
//     compact_bench [--csv FILE] [--match TEXT,...] [--list]
//
// Budget, estimated for an H100: a heap of 8 GiB takes 10 ms to fill and to empty; about 19 rounds for each form, and
// 11 kernels of 50 ms for each slowdown: 10 s in all, most of it for the pools themselves.
#include "cases.hpp"
#include "figures.hpp"

#include <CLI/CLI.hpp>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>

namespace {

bool is_wanted(const std::string& name, const std::vector<std::string>& words) {
    for (const std::string& word : words)
        if (name.find(word) != std::string::npos) return true;
    return words.empty();
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"Compaction of device pools"};
    std::string csv;
    std::vector<std::string> words;
    bool list = false;
    app.add_option("--csv", csv, "write the rows to this file");
    app.add_option("--match", words, "only cases whose name contains one of these")->delimiter(',');
    app.add_flag("--list", list, "print the cases and run nothing");
    CLI11_PARSE(app, argc, argv);

    std::vector<bench::CompactCase> cases = bench::heap_cases();
    for (const auto& more : {bench::churn_cases(), bench::resize_cases(), bench::drift_cases()})
        cases.insert(cases.end(), more.begin(), more.end());
    if (list) {
        for (const bench::CompactCase& c : cases)
            std::printf("%s\n", c.name.c_str());
        return 0;
    }
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::fprintf(stderr, "compact_bench: no CUDA device\n");
        return 77;
    }
    std::ofstream file;
    if (!csv.empty()) {
        file.open(csv);
        if (!file) {
            std::fprintf(stderr, "compact_bench: cannot write %s\n", csv.c_str());
            return 1;
        }
        file << bench::csv_header << '\n' << std::flush;
    }
    setenv("CUDA_ZSTD_POOL_MAX_SIZE", "17179869184", 0); // 8 GiB are more than the pool's default
    int failed = 0;
    for (const bench::CompactCase& c : cases) {
        if (!is_wanted(c.name, words)) continue;
        std::string rows;
        const bench::Rows write = [&](const std::string& metric, const std::string& unit, double value) {
            rows += bench::row("ours", c.name, metric.c_str(), unit.c_str(), value) + '\n';
        };
        bool good = false;
        try {
            good = c.run(write);
        } catch (const std::exception& error) {
            std::fprintf(stderr, "compact_bench: %s: %s\n", c.name.c_str(), error.what());
        }
        if (!good) {
            std::fprintf(stderr, "compact_bench: %s failed\n", c.name.c_str());
            ++failed;
            continue;
        }
        std::fputs(rows.c_str(), stdout);
        std::fflush(stdout);
        if (file.is_open()) file << rows << std::flush;
    }
    return failed == 0 ? 0 : 1;
}
