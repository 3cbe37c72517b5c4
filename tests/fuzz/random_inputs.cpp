// SPDX-License-Identifier: MIT
// A main for a fuzz target where there is no libFuzzer: runs the files that are named, or random inputs, always the
// same.
#include "cuda_zstd/env/sim/schedule.hpp"

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

// How many, and how long they are at most.
#ifndef FUZZ_INPUTS
#define FUZZ_INPUTS 100'000
#define FUZZ_LONGEST_INPUT 2000
#endif

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        std::ifstream file(argv[i], std::ios::binary);
        if (!file) {
            std::fprintf(stderr, "%s: cannot be read\n", argv[i]);
            return 2;
        }
        const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
        LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    }
    if (argc > 1) return 0;
    constexpr unsigned input_count = FUZZ_INPUTS;
    cuda_zstd::sim::Random random(1);
    for (unsigned input = 0; input < input_count; ++input) {
        std::vector<std::uint8_t> bytes(random.below(FUZZ_LONGEST_INPUT));
        // Bytes that mostly repeat: long stretches of one lane, then a switch.
        std::uint8_t byte = 0;
        const std::uint32_t change = 1 + random.below(30);
        for (std::uint8_t& each : bytes) {
            if (random.below(change) == 0) byte = static_cast<std::uint8_t>(random.next());
            each = byte;
        }
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::printf("%u inputs\n", input_count);
    return 0;
}
