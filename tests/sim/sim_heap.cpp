// SPDX-License-Identifier: MIT
// sim_heap: random schedules of random programs over tiny heaps, by the million; or one of them again, with its trace.
#include "../fuzz/fuzz_input.hpp"
#include "heap_scenario.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

struct Options {
    std::uint64_t schedules = 2000;
    std::uint64_t seed = 1;
    double seconds = 0;
    std::string policy = "mixed";
    std::string suite = "small";
    enum class Task { search, replay_seed } task = Task::search;
    sim::TraceOrder order = sim::TraceOrder::by_time;
};

sim::Policy policy_of(const std::string& name, std::uint64_t seed) {
    if (name == "random") return sim::Policy::random;
    if (name == "pct") return sim::Policy::pct;
    return seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
}

std::string arguments_of(const Scenario& scenario) {
    return fmt::format("--warps {} --lanes {} --pages {} --processors {} --slab-log2-pages {} --rounds {}{}",
                       scenario.warps, scenario.lanes, scenario.pages, scenario.processors, scenario.slab_log2_pages,
                       scenario.rounds, scenario.processor_rule == sim::Shape::Processors::roaming ? " --roaming" : "");
}

/// Runs one course and prints what every lane did.
template <unsigned Lanes>
int show(const Scenario& scenario, const Course& course, const Options& options, TinyArena& arena) {
    HeapProgram<sim_env<Lanes>> program(scenario, arena);
    const sim::Outcome outcome = program.run(course, sim::Simulation::Tracing::on);
    std::fputs(program.trace(options.order).c_str(), stdout);
    fmt::print("{}: {} steps, digest {:016x}: {}\n", arguments_of(scenario), outcome.step_count, outcome.digest,
               outcome ? "passed" : outcome.message);
    return outcome ? 0 : 1;
}

template <unsigned Lanes>
int run_scenario(const Scenario& scenario, const Options& options, TinyArena& arena) {
    if (options.task == Options::Task::replay_seed)
        return show<Lanes>(scenario, {options.seed, policy_of(options.policy, options.seed)}, options, arena);
    HeapProgram<sim_env<Lanes>> program(scenario, arena);
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed_s = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    std::uint64_t done = 0;
    for (; done < options.schedules; ++done) {
        if (options.seconds > 0 && elapsed_s() > options.seconds) break;
        const std::uint64_t seed = options.seed + done;
        const std::string policy = policy_of(options.policy, seed) == sim::Policy::pct ? "pct" : "random";
        const sim::Outcome outcome = program.run({seed, policy_of(policy, seed)});
        if (outcome) continue;
        fmt::print("FAILED at seed {}: {}\nreplay: sim_heap --replay {} --policy {} {}\n", seed, outcome.message, seed,
                   policy, arguments_of(scenario));
        return 1;
    }
    const Tally& tally = program.tally();
    fmt::print("{}: {} schedules from seed {}, {:.0f}/s, {:.1f} M steps/s, {} steps each; {} allocations, {} full, {} "
               "contended\n",
               arguments_of(scenario), done, options.seed, static_cast<double>(done) / elapsed_s(),
               static_cast<double>(tally.steps) / elapsed_s() / 1e6, done == 0 ? 0 : tally.steps / done,
               tally.allocations, tally.full, tally.contended);
    std::fflush(stdout);
    return 0;
}

int run_scenario(const Scenario& scenario, const Options& options, TinyArena& arena) {
    switch (scenario.lanes) {
    case 1:
        return run_scenario<1>(scenario, options, arena);
    case 2:
        return run_scenario<2>(scenario, options, arena);
    case 4:
        return run_scenario<4>(scenario, options, arena);
    default:
        return run_scenario<32>(scenario, options, arena);
    }
}

struct Part {
    Scenario scenario;
    unsigned share; ///< of the schedules asked for, in percent
};

/// Shapes that between them reach one and several cursors, slabs of one and of several pages, and heaps that are
/// nearly always full. `small`: two warps of two lanes; `whole`: four warps of 32 lanes; `shapes`: all else.
std::span<const Part> parts_of(const std::string& suite) {
    constexpr auto bound = sim::Shape::Processors::warp_bound;
    constexpr auto roaming = sim::Shape::Processors::roaming;
    static const Part small[] = {{{2, 2, 2, 1, 0, 6, bound}, 30},   {{2, 2, 3, 1, 1, 8, bound}, 20},
                                 {{2, 2, 4, 2, 0, 8, roaming}, 20}, {{2, 2, 4, 2, 0, 7, bound}, 15},
                                 {{2, 2, 8, 2, 2, 10, bound}, 10},  {{2, 2, 56, 2, 0, 14, roaming}, 5}};
    static const Part whole[] = {{{4, 32, 2, 1, 0, 3, bound}, 25},
                                 {{4, 32, 8, 2, 0, 4, bound}, 50},
                                 {{4, 32, 8, 3, 1, 5, roaming}, 20},
                                 {{4, 32, 32, 4, 1, 6, bound}, 5}};
    static const Part shapes[] = {{{3, 1, 3, 2, 1, 10, bound}, 30},  {{2, 4, 8, 2, 2, 8, bound}, 20},
                                  {{3, 2, 5, 1, 1, 12, bound}, 20},  {{4, 2, 40, 3, 3, 10, roaming}, 10},
                                  {{6, 1, 4, 3, 0, 8, roaming}, 10}, {{2, 32, 4, 1, 0, 6, roaming}, 5},
                                  {{3, 4, 24, 1, 2, 8, bound}, 5}};
    if (suite == "small") return small;
    if (suite == "whole") return whole;
    return shapes;
}

int run_suite(const Options& options, TinyArena& arena) {
    for (const auto& [shape, share] : parts_of(options.suite)) {
        Options part = options;
        part.schedules = std::max<std::uint64_t>(1, options.schedules * share / 100);
        part.seconds = options.seconds * share / 100;
        if (const int failed = run_scenario(shape, part, arena); failed != 0) return failed;
    }
    return 0;
}

std::vector<std::uint8_t> bytes_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + " cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

} // namespace

int main(int argc, char** argv) {
    Options options;
    Scenario scenario;
    std::uint64_t replay_seed = 0;
    CLI::App app(
        "Runs the device heap's algorithms under a seeded scheduler and checks what must hold. Without a shape "
        "(--warps, --lanes, --pages ...), a suite of shapes.");
    app.add_option("--schedules", options.schedules, "schedules to run, in all");
    app.add_option("--suite", options.suite, "2 warps x 2 lanes, 4 x 32, or others")
        ->check(CLI::IsMember({"small", "whole", "shapes"}));
    app.add_option("--seconds", options.seconds, "stop after this time, whatever --schedules says; 0: no limit")
        ->check(CLI::NonNegativeNumber);
    app.add_option("--seed", options.seed, "the first seed; schedule i has seed + i");
    app.add_option("--policy", options.policy, "how schedules are drawn")
        ->check(CLI::IsMember({"random", "pct", "mixed"}));
    auto* const replay = app.add_option("--replay", replay_seed, "run this one seed and print its trace");
    std::string input_path;
    auto* const input = app.add_option("--input", input_path, "run this input of heap_fuzz and print its trace");
    app.add_flag_callback(
        "--by-lane", [&] { options.order = sim::TraceOrder::by_lane; },
        "print the trace one lane after the other, not in the order of time");
    CLI::Option* const shape[] = {
        app.add_option("--warps", scenario.warps)->check(CLI::Range(1, 64)),
        app.add_option("--lanes", scenario.lanes, "lanes of a warp")->check(CLI::IsMember({1, 2, 4, 32})),
        app.add_option("--pages", scenario.pages, "pages of 64 KiB in the heap")->check(CLI::Range(1, 4096)),
        app.add_option("--processors", scenario.processors)->check(CLI::Range(1, 16)),
        app.add_option("--slab-log2-pages", scenario.slab_log2_pages, "log2 of the pages of the largest slab")
            ->check(CLI::Range(0, 5)),
        app.add_option("--rounds", scenario.rounds, "rounds of each lane's program")->check(CLI::Range(1, 1000)),
        app.add_flag_callback(
            "--roaming", [&] { scenario.processor_rule = sim::Shape::Processors::roaming; },
            "a warp may find itself on another processor at any time"),
    };
    CLI11_PARSE(app, argc, argv);
    try {
        TinyArena arena;
        bool has_shape = false;
        for (const CLI::Option* option : shape)
            has_shape = has_shape || option->count() != 0;
        if (input->count() != 0) {
            const std::vector<std::uint8_t> bytes = bytes_of(input_path);
            const FuzzInput decoded = FuzzInput::of(bytes);
            return show<fuzz_lanes>(decoded.scenario, decoded.course, options, arena);
        }
        if (replay->count() != 0) {
            options.task = Options::Task::replay_seed;
            options.seed = replay_seed;
            return run_scenario(scenario, options, arena);
        }
        return has_shape ? run_scenario(scenario, options, arena) : run_suite(options, arena);
    } catch (const std::exception& error) {
        fmt::print(stderr, "sim_heap: {}\n", error.what());
        return 2;
    }
}
