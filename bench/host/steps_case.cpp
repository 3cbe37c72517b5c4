// SPDX-License-Identifier: MIT
// What single steps take: each call of the driver that a hit may need, and the processor's.
#include "rounds.hpp"

#include <x86intrin.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace bench {

using cuda_zstd::BackendKind;

std::vector<Figure> single_steps(const Bench& bench) {
    const cudaStream_t stream = bench.backend.create_stream();
    std::vector<Figure> figures;
    const auto time = [&](const char* name, const auto& step) {
        constexpr unsigned steps = 20000;
        const std::vector<double> times = timed_rounds(bench, [&] {
            const auto begin = std::chrono::steady_clock::now();
            for (unsigned i = 0; i < steps; ++i)
                step();
            return ns_since(begin) / steps;
        });
        figures.push_back({name, "ns", median_after_the_first(times)});
    };
    std::atomic<std::uint64_t> word{0};
    time("exchange", [&] { (void)word.exchange(1, std::memory_order_acquire); });
    time("tick_counter", [&] { word.store(__rdtsc(), std::memory_order_relaxed); });
    time("steady_clock", [&] {
        word.store(static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()),
                   std::memory_order_relaxed);
    });
    time("stream_id", [&] { word.store(bench.backend.stream_id(stream), std::memory_order_relaxed); });
    time("is_capturing", [&] { word.store(bench.backend.is_capturing(stream) ? 1 : 0, std::memory_order_relaxed); });
    const cuda_zstd::BackendEvent event = bench.backend.create_untimed_event();
    time("event_record", [&] { bench.backend.record(event, stream); });
    bench.backend.synchronize(stream);
    time("event_query", [&] { (void)bench.backend.is_complete(event); });
    time("stream_wait_event", [&] { bench.backend.wait(stream, event); });
    bench.backend.synchronize(stream);
    if (bench.backend.kind() == BackendKind::cuda) {
        int device = 0;
        time("get_device", [&] { (void)cudaGetDevice(&device); });
    }
    bench.backend.destroy_event(event);
    bench.backend.destroy_stream(stream);
    return figures;
}

} // namespace bench
