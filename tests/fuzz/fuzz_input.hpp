// SPDX-License-Identifier: MIT
// What a fuzzer's input means: the shape of the heap, the calls of every lane, and the schedule.
//
// Invariant: any bytes are an input. The first chooses the shape, the second how many of the rest are calls (its value
// times 4); the others are the schedule, one byte a decision. Where bytes run out, a fixed seed goes on.
#pragma once

#include "../sim/heap_scenario.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace cuda_zstd::test {

inline constexpr unsigned fuzz_lanes = 2;

struct FuzzInput {
    Scenario scenario;
    Course course;

    static FuzzInput of(std::span<const std::uint8_t> bytes) {
        FuzzInput input;
        const std::uint8_t shape = bytes.empty() ? 0 : bytes[0];
        input.scenario.lanes = fuzz_lanes;
        input.scenario.warps = 2 + shape % 2;
        input.scenario.pages = 2 + shape / 2 % 7;
        input.scenario.processors = 1 + shape / 16 % 2;
        input.scenario.slab_log2_pages = shape / 32 % 2;
        input.scenario.rounds = 10;
        input.scenario.processor_rule =
            shape / 64 % 2 == 0 ? sim::Shape::Processors::warp_bound : sim::Shape::Processors::roaming;
        input.course.policy = sim::Policy::bytes;
        if (bytes.size() < 2) return input;
        const std::span<const std::uint8_t> rest = bytes.subspan(2);
        const std::size_t calls = std::min<std::size_t>(rest.size(), std::size_t{bytes[1]} * 4);
        input.course.calls = rest.first(calls);
        input.course.schedule = rest.subspan(calls);
        return input;
    }
};

} // namespace cuda_zstd::test
