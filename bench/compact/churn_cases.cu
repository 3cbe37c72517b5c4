// SPDX-License-Identifier: MIT
// How much slower a kernel that allocates and frees runs when its heap is compacted once a millisecond beside it.
#include "cases.hpp"
#include "many_slabs.cuh"

#include <chrono>
#include <thread>

namespace bench {
namespace {

using cuda_zstd::Compaction;
using cuda_zstd::DevicePoolRef;

/// Pairs of 16 to 1,024 B, as in W4 of the device benchmark.
__global__ void churn_kernel(DevicePoolRef pool, unsigned threads, unsigned pairs, unsigned* failures) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= threads) return;
    for (unsigned pair = 0; pair < pairs; ++pair) {
        const unsigned bytes = 16 + scatter(thread * 131 + pair) % 1009;
        auto* const block = static_cast<volatile unsigned*>(pool.allocate(bytes));
        if (block == nullptr) {
            atomicAdd(failures, 1u);
            continue;
        }
        *block = thread;
        if (*block != thread) atomicAdd(failures, 1u);
        pool.deallocate(const_cast<unsigned*>(block));
    }
}

bool run_slowdown(const Rows& rows, const Compaction& how) {
    constexpr unsigned threads = 100000, pairs = 1500, rounds = 5;
    ManySlabs heap;
    if (!heap.fill()) return false;
    const Pinned<unsigned> failures;
    cudaStream_t churn{}, compaction{};
    cudaEvent_t begin{}, end{};
    check(cudaStreamCreateWithFlags(&churn, cudaStreamNonBlocking), "cudaStreamCreate");
    check(cudaStreamCreateWithFlags(&compaction, cudaStreamNonBlocking), "cudaStreamCreate");
    check(cudaEventCreate(&begin), "cudaEventCreate");
    check(cudaEventCreate(&end), "cudaEventCreate");
    std::vector<double> alone, beside;
    double compactions = 0;
    for (unsigned round = 0; round <= 2 * rounds; ++round) {
        const bool compacts = round % 2 != 0;
        check(cudaEventRecord(begin, churn), "cudaEventRecord");
        churn_kernel<<<(threads + 255) / 256, 256, 0, churn>>>(heap.ref(), threads, pairs, failures.get());
        check(cudaGetLastError(), "churn_kernel");
        check(cudaEventRecord(end, churn), "cudaEventRecord");
        auto next = std::chrono::steady_clock::now();
        while (cudaEventQuery(end) == cudaErrorNotReady) {
            if (compacts) {
                heap.pool().compact(compaction, how);
                ++compactions;
            }
            next += std::chrono::milliseconds(1);
            std::this_thread::sleep_until(next);
        }
        check(cudaDeviceSynchronize(), "churn beside compaction");
        float ms = 0;
        check(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
        if (round != 0) (compacts ? beside : alone).push_back(ms);
    }
    const auto report = heap.pool().report();
    heap.empty();
    check(cudaEventDestroy(begin), "cudaEventDestroy");
    check(cudaEventDestroy(end), "cudaEventDestroy");
    check(cudaStreamDestroy(churn), "cudaStreamDestroy");
    check(cudaStreamDestroy(compaction), "cudaStreamDestroy");
    if (*failures != 0 || report.compactions == 0) {
        std::fprintf(stderr, "compact_bench: %u allocations failed, %u compactions ended\n", *failures,
                     report.compactions);
        return false;
    }
    rows("ratio", "ratio", median(beside) / median(alone));
    rows("compactions a kernel", "count", compactions / rounds);
    rows("kernel alone", "us", median(alone) * 1000);
    return true;
}

} // namespace

std::vector<CompactCase> churn_cases() {
    return {
        {"online/slowdown", [](const Rows& rows) { return run_slowdown(rows, {}); }},
        {"online/slowdown-budget",
         [](const Rows& rows) {
             return run_slowdown(rows, {Compaction::Form::online, 4096});
         }},
    };
}

} // namespace bench
