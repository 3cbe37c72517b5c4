// SPDX-License-Identifier: MIT
// What the user sees: a line for each file, the progress bar, and the figures as a table or as JSON.
// Invariant: compressed data and figures never share a stream; the progress bar is drawn on terminals only, and is gone
// when the figures come.
#pragma once

#include "files.hpp"
#include "progress_bar.hpp"

#include "cuda_zstd/device/device_pool.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pool_zstd {

/// What the whole run came to, beside its files.
struct RunFigures {
    std::string backend;
    std::string device;
    std::size_t pool_bytes = 0;
    std::size_t wave_bytes = 0;
    std::uint32_t chunk_bytes = 0;
    double seconds = 0;
    double kernel_ms = 0;
    std::size_t failed_files = 0;
    cuda_zstd::HeapReport pool;
    /// MemoryPoolManager::print_stats() at the end, and the bytes that are still allocated when all is freed.
    std::string manager_statistics;
    std::size_t leaked_bytes = 0;
};

class Report {
public:
    /// `expected_bytes` of input for the progress bar; 0: not known.
    Report(const Options& options, std::uint64_t expected_bytes);

    void progress(std::uint64_t done_bytes);
    void file(const InputFile& file);
    void error(const std::string& message);
    /// Prints the figures that were asked for.
    void end(const RunFigures& run);

private:
    std::string table(const RunFigures& run) const;
    std::string json(const RunFigures& run) const;

    struct Row {
        std::string name;
        std::string output_name;
        FileFigures figures;
    };

    const Options& options_;
    std::optional<ProgressBar> bar_;
    std::vector<Row> rows_;
    FileFigures total_;
};

} // namespace pool_zstd
