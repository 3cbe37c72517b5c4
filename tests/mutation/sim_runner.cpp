// SPDX-License-Identifier: MIT
// The simulator for a heap with a planted fault: small shapes, until something is reported or all schedules have run.
// Built by tools/mutate.py against a changed copy of the sources. Usage: sim_runner SCHEDULES; exits with 1 on a
// report. A call that ends in `contended` is a report here: in heaps this small no bounded wait runs out.
#include "../sim/free_twice.hpp"
#include "../sim/heap_scenario.hpp"
#include "../sim/page_map_check.hpp"
#include "../sim/tight_heap.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

constexpr auto bound = sim::Shape::Processors::warp_bound;
constexpr auto roaming = sim::Shape::Processors::roaming;
constexpr Scenario shapes[] = {
    {2, 2, 2, 1, 0, 6, bound, 60'000},  {2, 2, 3, 1, 1, 8, bound, 60'000},     {2, 2, 4, 2, 0, 8, roaming, 60'000},
    {3, 2, 5, 2, 1, 12, bound, 60'000}, {2, 2, 56, 2, 0, 14, roaming, 60'000}, {4, 2, 8, 2, 2, 10, bound, 90'000},
    {3, 2, 6, 1, 1, 14, bound, 90'000},
};
constexpr unsigned schedules_in_turn = 200;

} // namespace

int main(int argc, char** argv) {
    const std::uint64_t limit = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100'000;
    if (const std::string complaint = check_page_map(2000, 1); !complaint.empty()) {
        std::printf("schedule 0: %s\n", complaint.c_str());
        return 1;
    }
    TinyArena arena;
    std::uint64_t schedules = 0;
    sim::Shape two_by_two;
    two_by_two.step_limit = shapes[0].step_limit;
    sim::Simulation twice(two_by_two);
    for (std::uint64_t seed = 1; seed <= schedules_in_turn; ++seed) {
        const sim::Outcome outcome = free_twice<2>(twice, shapes[0], arena, seed);
        if (outcome) continue;
        std::printf("schedule %llu of double frees: %s\n", static_cast<unsigned long long>(seed),
                    outcome.message.c_str());
        return 1;
    }
    for (std::uint64_t first = 1; schedules < limit; first += schedules_in_turn) {
        for (const Scenario& shape : shapes) {
            HeapProgram<sim_env<2>> program(shape, arena);
            for (std::uint64_t seed = first; seed < first + schedules_in_turn; ++seed, ++schedules) {
                const auto policy = seed % 2 == 0 ? sim::Policy::random : sim::Policy::pct;
                const sim::Outcome outcome = program.run({seed, policy});
                if (outcome) continue;
                std::printf("schedule %llu: %s\n", static_cast<unsigned long long>(schedules), outcome.message.c_str());
                return 1;
            }
            const Tally& tally = program.tally();
            if (tally.contended * 200 > tally.allocations) {
                std::printf("schedule %llu: %llu of %llu calls ended in contended\n",
                            static_cast<unsigned long long>(schedules),
                            static_cast<unsigned long long>(tally.contended),
                            static_cast<unsigned long long>(tally.allocations));
                return 1;
            }
        }
        for (const auto& [name, scenario, program] : tight_programs) {
            TightHeap<4> heap(scenario, arena);
            for (std::uint64_t seed = first; seed < first + schedules_in_turn; ++seed, ++schedules) {
                const sim::Outcome outcome = (heap.*program)(seed);
                if (outcome) continue;
                std::printf("schedule %llu, %s: %s\n", static_cast<unsigned long long>(schedules), name,
                            outcome.message.c_str());
                return 1;
            }
        }
    }
    std::printf("%llu schedules, nothing\n", static_cast<unsigned long long>(schedules));
    return 0;
}
