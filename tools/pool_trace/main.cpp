// SPDX-License-Identifier: MIT
// pool-trace: reads what CUDA_ZSTD_POOL_TRACE has written. Exit status: 0, 1 for an error, 2 for a wrong command line.
#include "commands.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>

int main(int argc, char** argv) {
    CLI::App app{"Reads traces and snapshots of CUDA-ZSTD memory pools"};
    app.require_subcommand(1);
    std::function<int()> command;
    pool_trace::add_commands(app, command);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    try {
        return command();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "pool-trace: %s\n", error.what());
        return 1;
    }
}
