// SPDX-License-Identifier: MIT
// The command line of the soak programs.
// Invariant: exit code 0 means that nothing was found, 1 that something was, 2 a usage error, 77 that the backend is
// not there.
#pragma once

#include "tests/soak/soak.hpp"

#include <CLI/CLI.hpp>

#include <exception>
#include <fstream>

namespace cuda_zstd::soak {

template <class Launch>
int soak_main(int argc, char** argv, Settings settings) {
    CLI::App app{"Allocates and frees in kernels until a block is not as its owner left it"};
    std::string state;
    app.add_option("--pairs", settings.pairs, "pairs of the whole soak; 0: none")->capture_default_str();
    app.add_option("--cycles", settings.cycles, "times that a heap is filled and emptied")->capture_default_str();
    app.add_option("--seconds", settings.seconds, "begin no launch of pairs after this time; 0: until all are done");
    app.add_option("--state", state, "file that keeps what was done, so that the next call goes on");
    app.add_option("--seed", settings.seed)->capture_default_str();
    app.add_option("--heap", settings.heap_bytes, "bytes of the heap for pairs")->capture_default_str();
    app.add_option("--cycle-heap", settings.cycle_heap_bytes, "bytes of the heap that is filled")
        ->capture_default_str();
    app.add_option("--streams", settings.streams)->check(CLI::Range(1, 64))->capture_default_str();
    app.add_option("--log2-threads", settings.log2_threads, "of the largest launch")
        ->check(CLI::Range(5, 22))
        ->capture_default_str();
    app.add_option("--wide", settings.wide_of_lap, "launches of each 32 that draw all sizes and fill the heap")
        ->check(CLI::Range(0, 32))
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    if (!Launch::available()) {
        std::fprintf(stderr, "soak: no device of this backend\n");
        return 77;
    }
    try {
        if (!state.empty()) std::ifstream(state) >> settings.done_pairs >> settings.launches;
        PoolOptions options = from_environment(PoolOptions{});
        options.backend = Launch::backend().kind();
        MemoryPoolManager manager(options);
        std::printf("soak: %s; seed %llu\n", Launch::backend().description().c_str(),
                    static_cast<unsigned long long>(settings.seed));
        bool clean = true;
        {
            Soak<Launch> soak(manager, settings);
            if (settings.pairs > settings.done_pairs) clean = soak.random_pairs();
            if (clean && settings.cycles > 0) clean = soak.fill_cycles();
        }
        if (!state.empty() && clean) std::ofstream(state) << settings.done_pairs << ' ' << settings.launches << '\n';
        return clean ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "soak: %s\n", error.what());
        return 1;
    }
}

} // namespace cuda_zstd::soak
