// SPDX-License-Identifier: MIT
#include "report.hpp"

#include "message.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace pool_zstd {
namespace {

constexpr double megabyte = 1e6;

double ratio(std::uint64_t input, std::uint64_t output) {
    return output == 0 ? 0 : static_cast<double>(input) / static_cast<double>(output);
}
double megabytes_per_second(std::uint64_t bytes, double seconds) {
    return seconds <= 0 ? 0 : static_cast<double>(bytes) / megabyte / seconds;
}

nlohmann::ordered_json to_json(const FileFigures& figures) {
    return {{"input_bytes", figures.input_bytes},
            {"output_bytes", figures.output_bytes},
            {"ratio", ratio(figures.input_bytes, figures.output_bytes)},
            {"seconds", figures.seconds},
            {"megabytes_per_second", megabytes_per_second(figures.input_bytes, figures.seconds)},
            {"chunks", figures.chunk_count},
            {"sequences", figures.sequence_count},
            {"chunks_stored", figures.stored_chunks},
            {"chunks_stored_for_want_of_memory", figures.no_memory_chunks},
            {"chunks_done_at_the_second_attempt", figures.retried_chunks},
            {"chunks_done_in_a_later_wave", figures.later_chunks},
            {"scratch_bytes", figures.scratch_bytes},
            {"worst_case_scratch_bytes", figures.worst_case_bytes},
            {"scratch_share_of_worst_case",
             figures.worst_case_bytes == 0
                 ? 0
                 : static_cast<double>(figures.scratch_bytes) / static_cast<double>(figures.worst_case_bytes)}};
}

/// The last `width` characters at most, so that a table's columns stay where they are.
std::string shortened(const std::string& name, std::size_t width) {
    return name.size() <= width ? name : "..." + name.substr(name.size() - (width - 3));
}

constexpr std::size_t name_width = 36;

std::string table_row(const std::string& name, const FileFigures& figures) {
    const double share = figures.worst_case_bytes == 0 ? 0
                                                       : 100.0 * static_cast<double>(figures.scratch_bytes) /
                                                             static_cast<double>(figures.worst_case_bytes);
    return fmt::format("{:<{}} {:>13} {:>7.3f} {:>8.1f} {:>11} {:>11} {:>7.1f}% {:>7} {:>9}\n",
                       shortened(name, name_width), name_width, figures.input_bytes,
                       ratio(figures.input_bytes, figures.output_bytes),
                       megabytes_per_second(figures.input_bytes, figures.seconds), human_bytes(figures.scratch_bytes),
                       human_bytes(figures.worst_case_bytes), share, figures.stored_chunks, figures.no_memory_chunks);
}

} // namespace

Report::Report(const Options& options, std::uint64_t expected_bytes) : options_(options) {
    if (options.verbosity == Verbosity::normal && can_draw_bar()) bar_.emplace(expected_bytes);
}

void Report::progress(std::uint64_t done_bytes) {
    if (bar_) bar_->show(done_bytes);
}

void Report::file(const InputFile& file) {
    total_ += file.figures;
    if (options_.figures != Figures::none) rows_.push_back({file.shown_name(), file.output_name, file.figures});
    const bool prints =
        options_.verbosity == Verbosity::normal && options_.figures == Figures::none && !options_.writes_to_stdout();
    if (!prints) return;
    const FileFigures& figures = file.figures;
    const double percent = figures.input_bytes == 0 ? 100.0
                                                    : 100.0 * static_cast<double>(figures.output_bytes) /
                                                          static_cast<double>(figures.input_bytes);
    say("{:<20} :{:6.2f}%   ({} => {}, {})\n", file.shown_name(), percent, human_bytes(figures.input_bytes),
        human_bytes(figures.output_bytes), file.output_name);
    if (figures.no_memory_chunks != 0)
        say("pool-zstd: {}: {} of {} chunks stored uncompressed, since the pool was full; see --pool\n",
            file.shown_name(), figures.no_memory_chunks, figures.chunk_count);
}

void Report::error(const std::string& message) { say("pool-zstd: {}\n", message); }

std::string Report::table(const RunFigures& run) const {
    std::string text = fmt::format("Backend: {} ({})\n", run.backend, run.device);
    text += fmt::format("Chunks of {}, waves of {}, pool of {}\n\n", human_bytes(run.chunk_bytes),
                        human_bytes(run.wave_bytes), human_bytes(run.pool_bytes));
    text += fmt::format("{:<{}} {:>13} {:>7} {:>8} {:>11} {:>11} {:>8} {:>7} {:>9}\n", "File", name_width, "Bytes",
                        "Ratio", "MB/s", "Scratch", "Worst case", "Share", "Stored", "No memory");
    for (const Row& row : rows_)
        text += table_row(row.name, row.figures);
    text += table_row(fmt::format("All {} files", rows_.size()), total_);
    text += fmt::format(
        "\nScratch: what the chunks took from the pool, each at its most. Worst case: chunk/4 sequences of 8 B and\n"
        "ZSTD_compressBound(chunk) of output for every chunk. Stored: chunks that do not compress. No memory: chunks\n"
        "stored because the pool was full ({} more got memory at the second attempt, {} in a smaller wave).\n",
        total_.retried_chunks, total_.later_chunks);
    text += fmt::format("Time: {:.3f} s in all; kernels {:.3f} s, added up over waves that overlap.\n", run.seconds,
                        run.kernel_ms / 1000);
    text += fmt::format("\nDevice Pool Stats:\n"
                        "  Heap:             {}\n"
                        "  Peak in use:      {} (whole pages)\n"
                        "  Live at the end:  {} in {} blocks\n"
                        "  Failed requests:  {}\n"
                        "  Wrong frees:      {}\n"
                        "  Fragmentation:    {:.1f}%\n\n",
                        human_bytes(run.pool.heap_bytes), human_bytes(run.pool.peak_page_bytes),
                        human_bytes(run.pool.live_bytes), run.pool.live_blocks, run.pool.failed_allocations,
                        run.pool.invalid_frees + run.pool.double_frees, 100 * run.pool.fragmentation());
    text += run.manager_statistics;
    text += fmt::format("\nStill allocated when all was freed: {} bytes\n", run.leaked_bytes);
    return text;
}

std::string Report::json(const RunFigures& run) const {
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    for (const Row& row : rows_) {
        nlohmann::ordered_json entry = {{"file", row.name}, {"output", row.output_name}};
        entry.update(to_json(row.figures));
        files.push_back(entry);
    }
    nlohmann::ordered_json total = to_json(total_);
    total["kernel_seconds"] = run.kernel_ms / 1000;
    total["failed_files"] = run.failed_files;
    total["leaked_bytes"] = run.leaked_bytes;
    const nlohmann::ordered_json document = {{"backend", run.backend},
                                             {"device", run.device},
                                             {"chunk_bytes", run.chunk_bytes},
                                             {"wave_bytes", run.wave_bytes},
                                             {"files", files},
                                             {"total", total},
                                             {"pool",
                                              {{"arena_bytes", run.pool_bytes},
                                               {"heap_bytes", run.pool.heap_bytes},
                                               {"peak_page_bytes", run.pool.peak_page_bytes},
                                               {"live_bytes", run.pool.live_bytes},
                                               {"live_blocks", run.pool.live_blocks},
                                               {"failed_allocations", run.pool.failed_allocations},
                                               {"invalid_frees", run.pool.invalid_frees},
                                               {"double_frees", run.pool.double_frees},
                                               {"fragmentation", run.pool.fragmentation()}}},
                                             {"manager_statistics", run.manager_statistics}};
    return document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void Report::end(const RunFigures& run) {
    erase_bar();
    if (options_.figures == Figures::none) return;
    if (total_.seconds > 0) {
        for (Row& row : rows_)
            row.figures.seconds *= run.seconds / total_.seconds;
    }
    total_.seconds = run.seconds;
    std::FILE* const to = options_.writes_to_stdout() ? stderr : stdout;
    fmt::print(to, "{}", options_.figures == Figures::table ? table(run) : json(run));
    if (std::fflush(to) != 0) throw Error("writing the figures failed");
}

} // namespace pool_zstd
