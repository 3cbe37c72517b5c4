// SPDX-License-Identifier: MIT
#include "options.hpp"

#include "cuda_zstd/core/config.hpp"
#include "kernels/compression/compress_args.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>
#include <limits>
#include <unistd.h>
#include <utility>

namespace pool_zstd {
namespace {

using cuda_zstd::compression::largest_chunk_bytes;
using cuda_zstd::compression::smallest_chunk_bytes;
using cuda_zstd::compression::worst_case_scratch_bytes;

/// The smallest arena that a device pool can be made of.
constexpr std::size_t smallest_pool_bytes = std::size_t{1} << 20;

std::string version_text() {
    return fmt::format("pool-zstd {}.{}.{} (CUDA-ZSTD Memory Pool)", CUDA_ZSTD_POOL_VERSION_MAJOR,
                       CUDA_ZSTD_POOL_VERSION_MINOR, CUDA_ZSTD_POOL_VERSION_PATCH);
}

void check_sizes(const Options& options, const std::string& chunk_text, const std::string& pool_text) {
    if (options.pool_bytes < smallest_pool_bytes ||
        options.pool_bytes < 2 * worst_case_scratch_bytes(options.chunk_bytes)) {
        throw Error(fmt::format("--pool {}: too small for one chunk of {}, which may need {}; give at least 1M",
                                pool_text, chunk_text, human_bytes(worst_case_scratch_bytes(options.chunk_bytes))));
    }
    if (options.pool_bytes > std::size_t{1} << 44)
        throw Error(fmt::format("--pool {}: makes no sense, no machine has that much memory", pool_text));
    if (options.wave_bytes != 0 && options.wave_bytes < options.chunk_bytes)
        throw Error(fmt::format("--wave {}: smaller than one chunk ({})", human_bytes(options.wave_bytes), chunk_text));
}

void check_outputs(Options& options) {
    if (options.output && options.output_folder)
        throw Error(options.output == "-" ? "-c and --output-dir-flat exclude each other"
                                          : "-o and --output-dir-flat exclude each other");
    if (options.inputs.empty()) {
        options.inputs.emplace_back("-");
        if (isatty(STDIN_FILENO) != 0 && options.overwrite == Overwrite::refuse)
            throw Error("no file given, and stdin is a terminal; `pool-zstd --help` says how to use it");
    }
    bool reads_stdin = false;
    for (const std::string& input : options.inputs) {
        if (input.empty()) throw Error("an empty file name was given");
        if (input != "-") continue;
        if (reads_stdin) throw Error("stdin (-) is given more than once");
        reads_stdin = true;
    }
    if (options.output && options.output->empty()) throw Error("-o: the file name is empty");
    if (reads_stdin && !options.output) {
        if (options.inputs.size() > 1 || options.output_folder)
            throw Error("stdin (-) has no name for its output: use -o FILE or -c");
        options.output = "-";
    }
    if (options.writes_to_stdout() && isatty(STDOUT_FILENO) != 0 && options.overwrite == Overwrite::refuse)
        throw Error("stdout is a terminal: compressed data is not written to it without -f");
}

/// CLI11 takes an argument such as [a,b] for a list of two. This character in front hides the bracket.
constexpr char bracket_mark = '\x01';

/// The arguments as CLI11 wants them, the last one first.
std::vector<std::string> marked_arguments(int argc, char** argv) {
    std::vector<std::string> arguments;
    for (int i = argc - 1; i > 0; --i) {
        std::string argument = argv[i];
        if (argument.starts_with('[') || argument.starts_with(bracket_mark)) argument.insert(0, 1, bracket_mark);
        arguments.push_back(std::move(argument));
    }
    return arguments;
}

void unmark(std::string& argument) {
    if (argument.starts_with(bracket_mark)) argument.erase(0, 1);
}

} // namespace

std::size_t parse_bytes(const std::string& option, const std::string& text) {
    std::size_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    std::string unit(end, text.data() + text.size());
    for (char& c : unit)
        c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    unsigned shift = 0;
    bool known = error != std::errc::invalid_argument;
    if (unit == "K" || unit == "KB" || unit == "KIB") {
        shift = 10;
    } else if (unit == "M" || unit == "MB" || unit == "MIB") {
        shift = 20;
    } else if (unit == "G" || unit == "GB" || unit == "GIB") {
        shift = 30;
    } else if (!unit.empty() && unit != "B") {
        known = false;
    }
    if (!known) throw Error(fmt::format("{} {}: not a size; give bytes, or a number with K, M or G", option, text));
    if (error == std::errc::result_out_of_range || value > std::numeric_limits<std::size_t>::max() >> shift)
        throw Error(fmt::format("{} {}: too large", option, text));
    return value << shift;
}

std::string human_bytes(std::uint64_t bytes) {
    static constexpr std::array<const char*, 5> units = {"B", "KiB", "MiB", "GiB", "TiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1024 && unit + 1 < units.size())
        value /= 1024, ++unit;
    if (value == static_cast<double>(static_cast<std::uint64_t>(value)))
        return fmt::format("{} {}", static_cast<std::uint64_t>(value), units[unit]);
    return fmt::format("{:.1f} {}", value, units[unit]);
}

std::optional<Options> parse_command_line(int argc, char** argv) {
    Options options;
    CLI::App app("Compresses files into the zstd format with memory that the kernels take from a pool.\n"
                 "`zstd -d` decodes the result. With no FILE, or with -, reads stdin and writes stdout.",
                 "pool-zstd");
    std::string output;
    std::string folder;
    std::string chunk_text = "128K";
    std::string pool_text = "1G";
    std::string wave_text;
    bool to_stdout = false;
    bool force = false;
    bool keep = false;
    bool quiet = false;
    bool check = false;
    bool stats = false;
    bool json = false;
    bool decode = false;
    bool version = false;
    app.add_option("FILE", options.inputs, "files to compress; - is stdin");
    auto* const output_option = app.add_option("-o", output, "write to this file (several inputs are concatenated)");
    app.add_flag("-c,--stdout", to_stdout, "write to stdout");
    auto* const folder_option = app.add_option("--output-dir-flat", folder, "write all outputs into this folder");
    app.add_flag("-f,--force", force, "overwrite outputs; write to a terminal; follow symbolic links");
    app.add_flag("-k,--keep", keep, "keep the inputs (they always are)");
    app.add_flag("-q,--quiet", quiet, "print errors only");
    app.add_option("--chunk", chunk_text, "bytes that are compressed independently, 1K to 128K")->capture_default_str();
    app.add_option("--pool", pool_text, "bytes of the pool that kernels take their memory from")->capture_default_str();
    auto* const wave_option =
        app.add_option("--wave", wave_text, "bytes of input in flight at once (default: what suits pool and machine)");
    app.add_flag("--check", check, "add the format's content checksum");
    app.add_flag("--stats", stats, "print a table of files and memory, and the pool's statistics");
    app.add_flag("--json", json, "print the same as JSON");
    app.add_flag("-d,--decompress", decode, "(decoding is what `zstd -d FILE.zst` does)");
    app.add_flag("-V,--version", version, "print the version");
    app.footer(
        "Figures go to stdout, or to stderr where stdout carries compressed data. CUDA_ZSTD_POOL_BACKEND=cuda|host\n"
        "chooses where to run. Ends with 0 when every file was compressed, else with 1.");
    try {
        app.parse(marked_arguments(argc, argv));
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) {
            app.exit(error);
            return std::nullopt;
        }
        throw Error(fmt::format("{}; `pool-zstd --help` lists the options", error.what()));
    }
    for (std::string* const text : {&output, &folder, &chunk_text, &pool_text, &wave_text})
        unmark(*text);
    for (std::string& input : options.inputs)
        unmark(input);
    if (version) {
        fmt::print("{}\n", version_text());
        return std::nullopt;
    }
    if (decode) throw Error("this program only compresses: `zstd -d FILE.zst` decodes its files");
    if (to_stdout && output_option->count() != 0 && output != "-") throw Error("-c and -o exclude each other");
    if (stats && json) throw Error("--stats and --json exclude each other");
    if (to_stdout) {
        options.output = "-";
    } else if (output_option->count() != 0) {
        options.output = output;
    }
    if (folder_option->count() != 0) options.output_folder = folder;
    options.overwrite = force ? Overwrite::force : Overwrite::refuse;
    options.verbosity = quiet ? Verbosity::quiet : Verbosity::normal;
    options.figures = stats ? Figures::table : json ? Figures::json : Figures::none;
    options.checksum = check ? Checksum::present : Checksum::absent;
    const std::size_t chunk_bytes = parse_bytes("--chunk", chunk_text);
    if (chunk_bytes < smallest_chunk_bytes || chunk_bytes > largest_chunk_bytes)
        throw Error(fmt::format("--chunk {}: must be from 1K to 128K", chunk_text));
    options.chunk_bytes = static_cast<std::uint32_t>(chunk_bytes);
    options.pool_bytes = parse_bytes("--pool", pool_text);
    if (wave_option->count() != 0) {
        options.wave_bytes = parse_bytes("--wave", wave_text);
        if (options.wave_bytes == 0) throw Error("--wave 0: smaller than one chunk");
    }
    check_sizes(options, chunk_text, pool_text);
    check_outputs(options);
    return options;
}

} // namespace pool_zstd
