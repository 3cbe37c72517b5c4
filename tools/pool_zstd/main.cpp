// SPDX-License-Identifier: MIT
// pool-zstd: compresses files into the zstd format with memory that the kernels take from the pool.
#include "message.hpp"
#include "output.hpp"
#include "pipeline.hpp"
#include "report.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <fcntl.h>
#include <limits>
#include <memory>
#include <sstream>
#include <unistd.h>
#include <utility>

namespace pool_zstd {
namespace {

/// Bytes of all inputs; none when one of them is no regular file.
std::optional<std::uint64_t> total_bytes(const Options& options) {
    std::uint64_t total = 0;
    for (const std::string& name : options.inputs) {
        struct stat status {};
        const bool known = name == "-" ? ::fstat(0, &status) == 0 : ::stat(name.c_str(), &status) == 0;
        if (!known) continue; // reported when it is opened
        if (S_ISDIR(status.st_mode)) continue;
        if (!S_ISREG(status.st_mode)) return std::nullopt;
        total += static_cast<std::uint64_t>(status.st_size);
    }
    return total;
}

/// A standard descriptor that was closed would be given to the next file that is opened, and messages or figures would
/// go into it. This one answers reads and writes with the error that a closed one gives.
void hold_standard_descriptors() {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
        if (::fcntl(fd, F_GETFD) == -1 && ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            throw file_error("/dev/null", "cannot be opened");
    }
}

cuda_zstd::MemoryPoolManager& make_manager() {
    const SignalsHeld held; // the host backend makes threads
    cuda_zstd::MemoryPoolManager& manager = cuda_zstd::MemoryPoolManager::get_instance();
    manager.backend();
    return manager;
}

int compress(Options options) {
    const auto begin = std::chrono::steady_clock::now();
    ignore_links(options);
    if (options.output) {
        check_shared_output(options);
        options.overwrite = check_output(*options.output, options);
        if (options.inputs.size() > 1 && options.verbosity == Verbosity::normal)
            say("pool-zstd: all files are concatenated into {}: their names are not kept\n",
                options.writes_to_stdout() ? "stdout" : options.output->c_str());
    }
    if (options.output_folder) {
        struct stat folder {};
        if (::stat(options.output_folder->c_str(), &folder) != 0)
            throw file_error(*options.output_folder, "--output-dir-flat");
        if (!S_ISDIR(folder.st_mode))
            throw Error(fmt::format("{}: --output-dir-flat: is no folder", *options.output_folder));
    }
    const std::optional<std::uint64_t> expected = total_bytes(options);
    Report report(options, expected.value_or(0));
    cuda_zstd::MemoryPoolManager& manager = make_manager();
    cuda_zstd::Backend& backend = manager.backend();
    RunFigures run;
    {
        Pipeline pipeline(options, manager, expected.value_or(std::numeric_limits<std::uint64_t>::max() / 2),
                          {[&](std::uint64_t done_bytes) { report.progress(done_bytes); },
                           [&](const InputFile& file) { report.file(file); },
                           [&](const std::string& message) { report.error(message); }});
        for (const std::string& name : options.inputs)
            pipeline.add(name);
        pipeline.finish();
        run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        run.failed_files = pipeline.failed_files();
        run.kernel_ms = pipeline.kernel_ms();
        run.wave_bytes = pipeline.wave_bytes();
        if (options.figures != Figures::none) {
            run.pool = pipeline.pool_report();
            std::ostringstream text;
            manager.print_stats(text);
            run.manager_statistics = text.str();
        }
    }
    run.backend = backend.kind() == cuda_zstd::BackendKind::cuda ? "cuda" : "host";
    run.device = backend.description();
    run.pool_bytes = options.pool_bytes;
    run.chunk_bytes = options.chunk_bytes;
    run.leaked_bytes = manager.get_allocated_size();
    report.end(run);
    return run.failed_files == 0 ? 0 : 1;
}

} // namespace
} // namespace pool_zstd

int main(int argc, char** argv) {
    try {
        pool_zstd::hold_standard_descriptors();
        auto options = pool_zstd::parse_command_line(argc, argv);
        if (!options) return 0;
        pool_zstd::install_signal_handlers();
        return pool_zstd::compress(std::move(*options));
    } catch (const std::exception& error) {
        pool_zstd::say("pool-zstd: {}\n", error.what());
        return 1;
    }
}
