// SPDX-License-Identifier: MIT
// The device heap under libFuzzer: the input's first two bytes choose the program, all others are the schedule, one
// byte for each decision. So the fuzzer's coverage steers the interleaving.
#include "heap_scenario.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

Scenario scenario() {
    Scenario shape;
    shape.warps = 3;
    shape.lanes = 2;
    shape.pages = 3;
    shape.processors = 2;
    shape.slab_log2_pages = 1;
    shape.rounds = 10;
    return shape;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static TinyArena arena;
    static HeapProgram<sim_env<2>> program(scenario(), arena);
    if (size < 3) return 0;
    const std::uint64_t seed = data[0] + 256u * data[1];
    const sim::Outcome outcome =
        program.run(seed, sim::Policy::bytes, sim::Simulation::Tracing::off, std::span(data + 2, size - 2));
    if (outcome) return 0;
    std::fprintf(stderr, "program %llu: %s\n", static_cast<unsigned long long>(seed), outcome.message.c_str());
    std::abort();
}
