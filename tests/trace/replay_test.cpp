// SPDX-License-Identifier: MIT
// Replays: the same figures every time, and the advice that follows from them.
#include "replay.hpp"
#include "traced_program.hpp"

#include <gtest/gtest.h>

namespace pool_trace {
namespace {

using cuda_zstd::MemoryPoolManager;
using cuda_zstd::PoolOptions;
using cuda_zstd::Strategy;
using testing::mixed_calls;
using testing::traced;

constexpr std::uint64_t MiB = std::uint64_t{1} << 20;

void expect_same(const ReplayResult& a, const ReplayResult& b) {
    EXPECT_EQ(a.allocations, b.allocations);
    EXPECT_EQ(a.hits, b.hits);
    EXPECT_EQ(a.failures, b.failures);
    EXPECT_EQ(a.peak_live_bytes, b.peak_live_bytes);
    EXPECT_EQ(a.peak_mapped_bytes, b.peak_mapped_bytes);
    EXPECT_EQ(a.growths, b.growths);
    EXPECT_EQ(a.returns, b.returns);
    EXPECT_EQ(a.device_waits, b.device_waits);
    EXPECT_EQ(a.fragmentation_at_peak, b.fragmentation_at_peak);
}

PoolOptions phantom(Strategy strategy, std::uint64_t max_bytes) {
    PoolOptions options;
    options.backend = cuda_zstd::BackendKind::host;
    options.strategy = strategy;
    options.max_bytes = max_bytes;
    options.custom_source = make_phantom_source(max_bytes == 0 ? std::uint64_t{1} << 40 : max_bytes);
    return options;
}

TEST(Replay, IsTheSameEveryTime) {
    const Trace trace = traced([](MemoryPoolManager& pool) { mixed_calls(pool, 4, 2000); });
    const auto events = events_of(trace, busiest_pool(trace));
    for (const Strategy strategy : {Strategy::best_fit, Strategy::first_fit, Strategy::segregated}) {
        const ReplayResult first = replay(events, phantom(strategy, 0));
        expect_same(first, replay(events, phantom(strategy, 0)));
        EXPECT_EQ(first.failures, 0u);
        EXPECT_GT(first.peak_mapped_bytes, first.peak_live_bytes);
    }
}

TEST(Replay, NeedsNoMemory) {
    // 256 GiB at once: no machine of the tests has that.
    Trace trace;
    for (std::uint64_t index = 0; index < 256; ++index) {
        Event event;
        event.bytes = 1024 * MiB;
        event.pointer = (index + 1) * 1024 * MiB;
        event.begin = event.end = index;
        trace.events.push_back(event);
    }
    const ReplayResult result = replay(events_of(trace, 0), phantom(Strategy::best_fit, 0));
    EXPECT_EQ(result.failures, 0u);
    EXPECT_EQ(result.peak_live_bytes, 256 * 1024 * MiB);
}

TEST(Replay, FindsTheLeastLimitAndSaysSo) {
    // Eight blocks of 1.5 MiB, every second one freed, then one of 6 MiB: the holes do not hold it, and no chunk of 2
    // MiB is free as a whole.
    Trace trace;
    std::uint64_t time = 0;
    const auto add = [&](Call call, std::uint64_t pointer, std::uint64_t bytes) {
        Event event;
        event.call = call;
        event.pointer = pointer;
        event.bytes = bytes;
        event.begin = event.end = ++time;
        trace.events.push_back(event);
    };
    for (std::uint64_t index = 1; index <= 8; ++index)
        add(Call::allocate, index << 32, 3 * MiB / 2);
    for (std::uint64_t index = 1; index <= 8; index += 2)
        add(Call::deallocate, index << 32, 0);
    add(Call::allocate, std::uint64_t{99} << 32, 6 * MiB);
    const auto candidates = search(events_of(trace, 0));
    ASSERT_EQ(candidates.size(), 3u);
    for (const Candidate& each : candidates) {
        EXPECT_EQ(each.unlimited.peak_live_bytes, 12 * MiB);
        EXPECT_EQ(each.unlimited.failures, 0u);
        EXPECT_EQ(each.at_least.failures, 0u);
        EXPECT_EQ(each.least_bytes, 18 * MiB) << to_string(each.strategy);
        EXPECT_EQ(replay(events_of(trace, 0), phantom(each.strategy, each.least_bytes - 2 * MiB)).failures, 1u);
    }
    const std::string said = advice(candidates);
    EXPECT_NE(said.find("CUDA_ZSTD_POOL_MAX_SIZE=18874368"), std::string::npos) << said;
    EXPECT_NE(said.find("CUDA_ZSTD_POOL_STRATEGY="), std::string::npos) << said;
}

} // namespace
} // namespace pool_trace
