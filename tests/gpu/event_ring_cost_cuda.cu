// SPDX-License-Identifier: MIT
// What the ring of device events costs a kernel, and that it costs the others nothing: pairs of an allocation and its
// free by a pool's own handle before there is a ring, the same while there is one, and by the handle that writes
// events. Prints rows of subject,case,metric,unit,value, as the benchmarks do. No arguments; about a second.
#include "cuda_zstd/device/device_pool_events.hpp"
#include "cuda_zstd_device_pool.cuh"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "kernels/cuda_check.hpp"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;

constexpr unsigned threads_per_block = 256;
constexpr unsigned blocks_per_processor = 4;
constexpr unsigned pairs_per_thread = 4;
constexpr unsigned repeats = 31;
constexpr std::size_t block_bytes = 64;

template <class Ref>
__global__ void pairs_kernel(Ref pool, unsigned* failures) {
    for (unsigned pair = 0; pair < pairs_per_thread; ++pair) {
        void* const block = pool.allocate(block_bytes);
        if (block == nullptr) atomicAdd(failures, 1u);
        pool.deallocate(block);
    }
}

/// The median time of a launch, in microseconds; `after` is called behind each.
template <class Ref, class After>
double median_us(Backend& backend, cudaStream_t stream, unsigned grid, const Ref& ref, unsigned* failures,
                 const After& after) {
    const BackendEvent begin = backend.create_event();
    const BackendEvent end = backend.create_event();
    std::vector<double> times_us;
    for (unsigned repeat = 0; repeat < repeats; ++repeat) {
        backend.record(begin, stream);
        pairs_kernel<<<grid, threads_per_block, 0, stream>>>(ref, failures);
        check_launch("pairs_kernel");
        backend.record(end, stream);
        backend.synchronize(stream);
        times_us.push_back(1e3 * backend.elapsed_ms(begin, end));
        after();
    }
    backend.destroy_event(begin);
    backend.destroy_event(end);
    std::nth_element(times_us.begin(), times_us.begin() + repeats / 2, times_us.end());
    return times_us[repeats / 2];
}

void row(const char* metric, const char* unit, double value) {
    std::printf("ours,event-ring/%zu,%s,%s,%.6g\n", block_bytes, metric, unit, value);
}

void measure() {
    PoolOptions options;
    options.backend = BackendKind::cuda;
    MemoryPoolManager manager(options);
    Backend& backend = manager.backend();
    const cudaStream_t stream = backend.create_stream();
    auto* const failures = static_cast<unsigned*>(manager.allocate(sizeof(unsigned), stream));
    backend.fill_async(failures, 0, sizeof(unsigned), stream);
    {
        DevicePool pool(manager, std::size_t{256} << 20, stream);
        const unsigned grid = backend.processors() * blocks_per_processor;
        const std::uint64_t pairs = std::uint64_t{grid} * threads_per_block * pairs_per_thread;
        const DevicePoolRef plain = pool.ref<cuda_env>();
        const auto nothing = [] {};
        (void)median_us(backend, stream, grid, plain, failures, nothing); // slabs come into being
        const double before_us = median_us(backend, stream, grid, plain, failures, nothing);
        // Room for all events of a launch, whichever processors it runs on.
        DevicePoolEvents events(manager, stream, 1u << 22);
        const double beside_us = median_us(backend, stream, grid, plain, failures, nothing);
        std::uint64_t drained = 0;
        const TracedDevicePoolRef traced = events.ref<cuda_env>(pool, 1);
        const double traced_us =
            median_us(backend, stream, grid, traced, failures, [&] { drained += events.drain(stream).size(); });
        if (events.dropped() != 0) throw std::runtime_error("events were dropped: the ring is too small");
        if (drained != 2 * pairs * repeats) throw std::runtime_error("not every call has its event");
        row("a pair, no ring", "ns", 1e3 * before_us / static_cast<double>(pairs));
        row("a pair, beside a ring", "ns", 1e3 * beside_us / static_cast<double>(pairs));
        row("a pair with its events", "ns", 1e3 * traced_us / static_cast<double>(pairs));
        row("not used / no ring", "ratio", beside_us / before_us);
        row("used / no ring", "ratio", traced_us / before_us);
    }
    unsigned failed = 0;
    backend.copy_async(&failed, failures, sizeof failed, stream);
    backend.synchronize(stream);
    manager.deallocate(failures, stream);
    backend.destroy_stream(stream);
    if (failed != 0) throw std::runtime_error(std::to_string(failed) + " allocations failed");
}

} // namespace

int main() try {
    if (!Backend::cuda_available()) {
        std::puts("SKIPPED: no CUDA device");
        return 77;
    }
    measure();
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "event_ring_cost: %s\n", error.what());
    return 1;
}
