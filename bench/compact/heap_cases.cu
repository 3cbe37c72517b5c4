// SPDX-License-Identifier: MIT
// Compactions of a heap at rest, what comes back of a heap that was full, and the reading of a report.
#include "cases.hpp"
#include "many_slabs.cuh"

#include <algorithm>
#include <chrono>

namespace bench {
namespace {

using cuda_zstd::Compaction;
using cuda_zstd::DevicePool;
using cuda_zstd::DevicePoolRef;
using cuda_zstd::HeapReport;
using Clock = std::chrono::steady_clock;

bool complain(const char* what, unsigned long long found, unsigned long long wanted) {
    std::fprintf(stderr, "compact_bench: %s: %llu instead of %llu\n", what, found, wanted);
    return false;
}

/// The compaction of at least 100,000 live slabs and some 20,000 empty ones, each time of a heap in disorder: as a
/// call, and as a graph that was captured from one. `time` has both the device's work and what the stream waits for.
bool run_full(const Rows& rows, const Compaction& how) {
    constexpr unsigned rounds = 9;
    ManySlabs heap;
    cudaStream_t stream{};
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    cudaGraph_t graph{};
    cudaGraphExec_t exec{};
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    heap.pool().compact(stream, how);
    check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
    check(cudaGraphUpload(exec, nullptr), "cudaGraphUpload");
    Timer timer;
    std::vector<double> by_call, by_graph, slabs, retired;
    bool good = true;
    for (unsigned round = 0; good && round <= 2 * rounds; ++round) {
        if (!heap.fill()) good = complain("blocks served", 0, 1);
        const bool uses_graph = round % 2 != 0;
        const double us = timer.time_us([&] {
            if (uses_graph)
                check(cudaGraphLaunch(exec, nullptr), "cudaGraphLaunch");
            else
                heap.pool().compact(nullptr, how);
        });
        const HeapReport report = heap.pool().report();
        if (report.empty_slabs != 0) good = complain("empty slabs after compaction", report.empty_slabs, 0);
        if (report.retired_slabs == 0) good = complain("slabs retired", 0, 1);
        if (report.slabs < 100000) good = complain("live slabs", report.slabs, 100000);
        slabs.push_back(report.slabs);
        retired.push_back(report.retired_slabs);
        if (round != 0) (uses_graph ? by_graph : by_call).push_back(us);
        heap.empty();
    }
    check(cudaGraphExecDestroy(exec), "cudaGraphExecDestroy");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
    check(cudaStreamDestroy(stream), "cudaStreamDestroy");
    if (!good) return false;
    rows("time", "us", median(by_call));
    rows("time in a graph", "us", median(by_graph));
    rows("slabs left", "count", median(slabs));
    rows("slabs retired", "count", median(retired));
    return true;
}

__global__ void serve_kernel(DevicePoolRef pool, void** blocks, unsigned count, std::size_t bytes, unsigned* served) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count) return;
    blocks[thread] = pool.allocate(bytes);
    if (blocks[thread] != nullptr) atomicAdd(served, 1u);
}
__global__ void give_kernel(DevicePoolRef pool, void** blocks, unsigned count) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < count) pool.deallocate(blocks[thread]);
}

/// Blocks of a size that a heap has when it is new, and when it was filled with 64 B, freed and compacted.
bool run_return(const Rows& rows, std::size_t bytes, const Compaction& how) {
    constexpr std::size_t heap_bytes = std::size_t{1} << 30;
    DevicePool pool(cuda_zstd::MemoryPoolManager::get_instance(), heap_bytes);
    const auto blocks_of = [&](std::size_t size) {
        return static_cast<unsigned>(pool.layout().payload_bytes() / size);
    };
    const unsigned most = blocks_of(64);
    DeviceArray<void*> blocks(most);
    const Pinned<unsigned> served;
    const auto take_and_give = [&](std::size_t size) {
        const unsigned count = blocks_of(size), grid = (count + 255) / 256;
        *served = 0;
        serve_kernel<<<grid, 256>>>(pool.ref<cuda_zstd::cuda_env>(), blocks.get(), count, size, served.get());
        check(cudaGetLastError(), "serve_kernel");
        give_kernel<<<grid, 256>>>(pool.ref<cuda_zstd::cuda_env>(), blocks.get(), count);
        check(cudaGetLastError(), "give_kernel");
        pool.compact(nullptr, how);
        check(cudaDeviceSynchronize(), "a heap that is filled and emptied");
        return *served;
    };
    const unsigned when_new = take_and_give(bytes);
    if (take_and_give(64) == 0) return complain("blocks of 64 B", 0, most);
    const unsigned again = take_and_give(bytes);
    if (when_new == 0) return complain("blocks of a new heap", 0, blocks_of(bytes));
    rows("share", "share", static_cast<double>(again) / when_new);
    return true;
}

/// Reading a report: over and over, and once after each new one, which the device has just written.
bool run_report(const Rows& rows) {
    DevicePool pool(cuda_zstd::MemoryPoolManager::get_instance(), std::size_t{64} << 20);
    pool.compact(nullptr);
    check(cudaDeviceSynchronize(), "a compaction");
    constexpr unsigned reads = 200000, reports = 201;
    std::uint64_t sum = 0;
    const auto begin = Clock::now();
    for (unsigned read = 0; read < reads; ++read)
        sum += pool.report().sequence;
    const double us = std::chrono::duration<double, std::micro>(Clock::now() - begin).count() / reads;
    if (sum != reads) return complain("the sum of the sequence numbers", sum, reads);
    std::vector<double> of_new;
    for (unsigned number = 2; number < reports; ++number) {
        pool.compact(nullptr);
        check(cudaDeviceSynchronize(), "a compaction");
        const auto from = Clock::now();
        const std::uint64_t sequence = pool.report().sequence;
        of_new.push_back(std::chrono::duration<double, std::micro>(Clock::now() - from).count());
        if (sequence != number) return complain("the sequence number", sequence, number);
    }
    rows("time", "us", us);
    rows("time of a new one", "us", median(of_new));
    return true;
}

} // namespace

std::vector<CompactCase> heap_cases() {
    const Compaction online{}, quiet{Compaction::Form::quiet, cuda_zstd::whole_heap};
    return {
        {"full/8GiB", [=](const Rows& rows) { return run_full(rows, quiet); }},
        {"online/8GiB", [=](const Rows& rows) { return run_full(rows, online); }},
        {"return/4KiB", [=](const Rows& rows) { return run_return(rows, std::size_t{4} << 10, online); }},
        {"return/64KiB", [=](const Rows& rows) { return run_return(rows, std::size_t{64} << 10, online); }},
        {"return/2MiB", [=](const Rows& rows) { return run_return(rows, std::size_t{2} << 20, online); }},
        {"return/64MiB", [=](const Rows& rows) { return run_return(rows, std::size_t{64} << 20, online); }},
        {"report/read", run_report},
    };
}

} // namespace bench
