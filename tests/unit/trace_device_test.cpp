// SPDX-License-Identifier: MIT
// What a profiler is told of device pools: their counters, and the events of kernels. main() is in trace_test.cpp.
#include "cuda_zstd/device/device_pool_events.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "trace_recorded.hpp"

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

namespace cuda_zstd::test {
namespace {

/// The counters of the device pool that was made last.
std::map<std::string, std::string> device_counters(const std::vector<Line>& lines) {
    std::string prefix;
    for (const Line& line : lines)
        if (line.text.starts_with("counter cuda_zstd device pool "))
            prefix = line.text.substr(8, line.text.find(' ', 30) + 1 - 8);
    return last_values(lines, prefix);
}

TEST(Trace, ADevicePoolHasCounters) {
    MemoryPoolManager manager(options());
    DevicePool pool(manager, 8 * MiB);
    Backend& backend = manager.backend();
    void* block = nullptr;
    backend.run_blocks(nullptr, 1, [&](unsigned, unsigned processor) {
        solo_env env(processor);
        block = pool.ref<solo_env>().allocate(env, 3 * MiB);
    });
    backend.synchronize();
    ASSERT_NE(block, nullptr);
    (void)recorded_lines();
    pool.compact(nullptr);
    backend.synchronize();
    const HeapReport report = pool.last_report();
    auto last = device_counters(recorded_lines());
    EXPECT_EQ(last.size(), 6u);
    EXPECT_EQ(last["bytes in use"], std::to_string(3 * MiB));
    EXPECT_EQ(last["bytes mapped"], std::to_string(report.heap_bytes));
    EXPECT_EQ(last["bytes free"], std::to_string(report.free_page_bytes));
    EXPECT_EQ(last["largest free run"], std::to_string(report.largest_free_bytes));
    EXPECT_EQ(last["fragmentation"], std::to_string(report.fragmentation()));
    pool.deallocate(block, nullptr);
    pool.statistics(nullptr);
    last = device_counters(recorded_lines());
    EXPECT_EQ(last["bytes in use"], "0");
}

TEST(Trace, EventsOfKernelsAreSamplesAtTheirTimes) {
    MemoryPoolManager manager(options());
    DevicePool pool(manager, 8 * MiB);
    DevicePoolEvents events(manager);
    Backend& backend = manager.backend();
    (void)recorded_lines();
    const std::uint64_t begin_ns = event_clock_ns();
    backend.run_blocks(nullptr, 1, [&](unsigned, unsigned processor) {
        solo_env env(processor);
        const auto traced = events.ref<solo_env>(pool, 1);
        void* const first = traced.allocate(env, 100);
        void* const second = traced.allocate(env, 1000);
        traced.deallocate(env, first);
        EXPECT_EQ(traced.allocate(env, 100 * MiB), nullptr);
        traced.deallocate(env, second);
    });
    backend.synchronize();
    const std::uint64_t end_ns = event_clock_ns();
    EXPECT_EQ(events.drain(nullptr).size(), 5u);
    // The host backend's two clocks are one: what is wrong is the way of a comparison.
    const std::uint64_t wrong_ns = events.clock_uncertainty_ns() + 1'000'000;
    unsigned batches = 0;
    for (const Line& line : recorded_lines()) {
        if (!line.text.starts_with("batch cuda_zstd device events ")) continue;
        ++batches;
        std::vector<std::int64_t> values;
        std::uint64_t before_ns = 0;
        std::istringstream words(line.text.substr(line.text.find(" bytes live") != std::string::npos
                                                      ? line.text.find(" bytes live") + 11
                                                      : line.text.find(" failed requests") + 16));
        for (std::string word; words >> word;) {
            const std::uint64_t time_ns = std::stoull(word);
            EXPECT_GE(time_ns, before_ns);
            EXPECT_GE(time_ns + wrong_ns, begin_ns);
            EXPECT_LE(time_ns, end_ns + wrong_ns);
            before_ns = time_ns;
            values.push_back(std::stoll(word.substr(word.find('=') + 1)));
        }
        if (line.text.find(" bytes live") != std::string::npos)
            EXPECT_EQ(values, (std::vector<std::int64_t>{100, 1100, 1000, 1000, 0}));
        else
            EXPECT_EQ(values, (std::vector<std::int64_t>{0, 0, 0, 1, 1}));
    }
    EXPECT_EQ(batches, 2u);
}

} // namespace
} // namespace cuda_zstd::test
