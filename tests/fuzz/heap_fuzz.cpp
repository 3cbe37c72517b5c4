// SPDX-License-Identifier: MIT
// The device heap under libFuzzer: the input is the shape, the calls and the schedule (fuzz_input.hpp), so that the
// fuzzer's coverage steers the interleaving. `sim_heap --input FILE` shows what an input does, step by step.
#include "fuzz_input.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace cuda_zstd;
    using namespace cuda_zstd::test;
    static TinyArena arena;
    const FuzzInput input = FuzzInput::of(std::span(data, size));
    HeapProgram<sim_env<fuzz_lanes>> program(input.scenario, arena);
    const sim::Outcome outcome = program.run(input.course);
    if (outcome) return 0;
    std::fprintf(stderr, "%s\n", outcome.message.c_str());
    std::abort();
}
