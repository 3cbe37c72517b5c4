// SPDX-License-Identifier: MIT
#include "commands.hpp"

#include "formats.hpp"
#include "replay.hpp"
#include "report.hpp"
#include "summary.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <iterator>
#include <map>
#include <memory>
#include <optional>

namespace pool_trace {
namespace {

enum class Format { trace, rmm, chrome };
const std::map<std::string, Format> formats{{"trace", Format::trace}, {"rmm", Format::rmm}, {"chrome", Format::chrome}};
const std::map<std::string, Subject> subjects{
    {"pool", Subject::pool}, {"cudaMallocAsync", Subject::cuda_malloc_async}, {"cudaMalloc", Subject::cuda_malloc}};
const std::map<std::string, cuda_zstd::Strategy> strategies{{"best-fit", cuda_zstd::Strategy::best_fit},
                                                            {"first-fit", cuda_zstd::Strategy::first_fit},
                                                            {"segregated", cuda_zstd::Strategy::segregated}};

struct Arguments {
    std::string input;
    std::string output = "-";
    std::optional<Format> from;
    Format to = Format::rmm;
    std::optional<std::uint32_t> pool;
    Subject subject = Subject::pool;
    std::optional<cuda_zstd::Strategy> strategy;
    std::uint64_t max_bytes = 0;
    std::string backend = "phantom";
    std::string snapshot;
    std::string title;
    bool json = false;
};

std::string_view text_of(const std::vector<unsigned char>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads a trace in the format that is asked for, else in the one that its first bytes show.
Trace load(const Arguments& arguments) {
    const auto bytes = read_bytes(arguments.input);
    const std::string_view text = text_of(bytes);
    Format format = Format::trace;
    if (arguments.from)
        format = *arguments.from;
    else if (text.starts_with("Thread,"))
        format = Format::rmm;
    else if (text.starts_with("{"))
        format = Format::chrome;
    try {
        Trace trace = format == Format::rmm      ? from_rmm_csv(text)
                      : format == Format::chrome ? from_chrome_json(text)
                                                 : parse(bytes);
        if (!trace.cut.empty())
            std::fprintf(stderr, "pool-trace: %s: %s\n", arguments.input.c_str(), trace.cut.c_str());
        return trace;
    } catch (const std::exception& error) {
        throw std::runtime_error(arguments.input + ": " + error.what());
    }
}

void write_text(const std::string& path, std::string_view text) {
    write_bytes(path, {reinterpret_cast<const unsigned char*>(text.data()), text.size()});
}

int print(const Arguments& arguments) {
    std::string text;
    for (const Event& event : load(arguments).events)
        text += to_line(event) + "\n";
    write_text(arguments.output, text);
    return 0;
}

int summarize_command(const Arguments& arguments) {
    const Trace trace = load(arguments);
    const auto pools = summarize(trace);
    write_text(arguments.output, arguments.json ? to_json(trace, pools) : to_text(trace, pools));
    return 0;
}

int convert(const Arguments& arguments) {
    const Trace trace = load(arguments);
    if (arguments.to == Format::trace)
        write_bytes(arguments.output, serialize(trace));
    else
        write_text(arguments.output, arguments.to == Format::rmm ? to_rmm_csv(trace) : to_chrome_json(trace));
    return 0;
}

std::string result_text(const ReplayResult& result) {
    return fmt::format("  allocations            {} ({} hits)\n"
                       "  failures               {}\n"
                       "  live, mapped at most   {}, {} bytes\n"
                       "  growths, returns       {}, {}\n"
                       "  device waits           {}\n"
                       "  fragmentation          {:.3f} when most is live\n",
                       result.allocations, result.hits, result.failures, result.peak_live_bytes,
                       result.peak_mapped_bytes, result.growths, result.returns, result.device_waits,
                       result.fragmentation_at_peak);
}

int replay_command(const Arguments& arguments) {
    const Trace trace = load(arguments);
    const auto events = events_of(trace, arguments.pool.value_or(busiest_pool(trace)));
    ReplayResult result;
    if (arguments.subject != Subject::pool) {
        result = replay_cuda(events, arguments.subject);
    } else {
        cuda_zstd::PoolOptions options;
        options.max_bytes = arguments.max_bytes;
        if (arguments.strategy) options.strategy = *arguments.strategy;
        if (arguments.backend == "phantom") {
            options.backend = cuda_zstd::BackendKind::host;
            options.custom_source =
                make_phantom_source(arguments.max_bytes == 0 ? std::size_t{1} << 40 : arguments.max_bytes);
        } else {
            options.backend = arguments.backend == "cuda" ? cuda_zstd::BackendKind::cuda : cuda_zstd::BackendKind::host;
        }
        result = replay(events, options);
    }
    std::string text = result_text(result);
    // Of another run it is another figure, so it goes where nobody compares it.
    std::fprintf(stderr, "%.1f ns a call\n", result.call_ns);
    write_text(arguments.output, text);
    return result.failures == 0 ? 0 : 1;
}

int search_command(const Arguments& arguments) {
    const Trace trace = load(arguments);
    const auto candidates = search(events_of(trace, arguments.pool.value_or(busiest_pool(trace))));
    std::string text = fmt::format("{:<12} {:>16} {:>16} {:>10} {:>10} {:>14}\n", "strategy", "mapped, no limit",
                                   "least limit", "growths", "hits", "fragmentation");
    for (const Candidate& each : candidates)
        fmt::format_to(std::back_inserter(text), "{:<12} {:>16} {:>16} {:>10} {:>10} {:>14.3f}\n",
                       to_string(each.strategy), each.unlimited.peak_mapped_bytes, each.least_bytes,
                       each.at_least.growths, each.at_least.hits, each.unlimited.fragmentation_at_peak);
    text += advice(candidates);
    write_text(arguments.output, text);
    return 0;
}

int report_command(const Arguments& arguments) {
    ReportInput input;
    if (!arguments.input.empty()) {
        Trace trace = load(arguments);
        trace.events = events_of(trace, arguments.pool.value_or(busiest_pool(trace)));
        input.trace = std::move(trace);
    }
    if (!arguments.snapshot.empty()) input.snapshot = text_of(read_bytes(arguments.snapshot));
    if (!input.trace && input.snapshot.empty()) throw std::runtime_error("report needs a trace, a snapshot or both");
    input.title = arguments.title.empty() ? "CUDA-ZSTD memory pool" : arguments.title;
    write_text(arguments.output, report_page(input));
    return 0;
}

} // namespace

void add_commands(CLI::App& app, std::function<int()>& chosen) {
    const auto arguments = std::make_shared<Arguments>();
    const auto add = [&](const char* name, const char* about, int (*run)(const Arguments&)) {
        CLI::App* command = app.add_subcommand(name, about);
        command->add_option("file", arguments->input, "The trace; - for stdin")->required();
        command->add_option("-o,--output", arguments->output, "Where to write; stdout if not given");
        command->add_option("--from", arguments->from, "The trace's format; else its first bytes tell")
            ->transform(CLI::CheckedTransformer(formats));
        command->callback([&chosen, arguments, run] { chosen = [arguments, run] { return run(*arguments); }; });
        return command;
    };
    add("print", "A line for each call", &print);
    add("summarize", "Calls, bytes, hits and times of each pool", &summarize_command)
        ->add_flag("--json", arguments->json, "As JSON");
    add("convert", "Writes the trace in another format", &convert)
        ->add_option("--to", arguments->to, "trace, rmm (RMM's CSV) or chrome (Perfetto, chrome://tracing)")
        ->required()
        ->transform(CLI::CheckedTransformer(formats));
    CLI::App* replay =
        add("replay", "Runs the trace's calls again; 1 where one fails that was served", &replay_command);
    replay->add_option("--subject", arguments->subject, "pool, cudaMallocAsync or cudaMalloc")
        ->transform(CLI::CheckedTransformer(subjects));
    replay->add_option("--strategy", arguments->strategy, "best-fit, first-fit or segregated")
        ->transform(CLI::CheckedTransformer(strategies));
    replay->add_option("--max-bytes", arguments->max_bytes, "The pool's limit; 0: none");
    replay->add_option("--backend", arguments->backend, "phantom: addresses without memory; host; cuda")
        ->check(CLI::IsMember({"phantom", "host", "cuda"}));
    CLI::App* search =
        add("advise", "Which strategy and which size would have served the program best", &search_command);
    CLI::App* report =
        add("report", "One HTML page: arenas, bytes over time, sizes, lifetimes, advice", &report_command);
    report->get_option("file")->required(false);
    report->add_option("--snapshot", arguments->snapshot, "What MemoryPoolManager::write_snapshot() wrote");
    report->add_option("--title", arguments->title, "The page's heading");
    for (CLI::App* each : {replay, search, report})
        each->add_option("--pool", arguments->pool, "The pool's number in the trace; else the one with most calls");
}

} // namespace pool_trace
