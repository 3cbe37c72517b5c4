// SPDX-License-Identifier: MIT
// W10: what a compressor's thread blocks do: each takes some blocks of memory, writes them, gives them back.
#pragma once

#include "churn.cuh"

namespace bench {

inline constexpr unsigned most_scratch_blocks = 40;
inline constexpr unsigned most_scratch_bytes = 64u << 10;

/// From 1 KiB to 64 KiB, in steps of 16 B.
BENCH_HD inline unsigned scratch_bytes(unsigned job, unsigned index) {
    return (1024u + mix(job * 64u + index) % (most_scratch_bytes - 1023u)) & ~15u;
}
/// From 3 to 40.
BENCH_HD inline unsigned scratch_blocks(unsigned job) { return 3u + mix(job) % (most_scratch_blocks - 2u); }

/// Block `index` of job `job`: from the heap, or at the place that was reserved for it.
template <class Ref>
__device__ void* take_scratch(const Ref& ref, unsigned job, unsigned index, unsigned bytes) {
    if constexpr (requires { ref.reserved(job, index); }) {
        return ref.reserved(job, index);
    } else {
        return ref.allocate(bytes);
    }
}

/// A thread block a job. `failures` counts nulls, and with `whole_blocks` the words that were not as they were written.
template <class Ref, Check check_kind>
__global__ void scratch_kernel(Ref ref, unsigned long long* failures) {
    __shared__ void* taken[most_scratch_blocks];
    const unsigned job = blockIdx.x;
    const unsigned count = scratch_blocks(job);
    for (unsigned index = 0; index < count; ++index) {
        const unsigned bytes = scratch_bytes(job, index);
        if (threadIdx.x == 0) {
            taken[index] = take_scratch(ref, job, index, bytes);
            if (taken[index] == nullptr) atomicAdd(failures, 1ull);
        }
        __syncthreads();
        auto* const block = static_cast<uint4*>(taken[index]);
        if (block == nullptr) continue; // for the whole thread block
        const unsigned stamp = mix(job) + index;
        for (unsigned at = threadIdx.x; at < bytes / 16; at += blockDim.x)
            block[at] = make_uint4(stamp, at, stamp ^ at, job);
    }
    __syncthreads();
    if constexpr (check_kind == Check::whole_blocks) {
        for (unsigned index = 0; index < count; ++index) {
            const auto* const block = static_cast<const uint4*>(taken[index]);
            if (block == nullptr) continue;
            const unsigned stamp = mix(job) + index;
            for (unsigned at = threadIdx.x; at < scratch_bytes(job, index) / 16; at += blockDim.x) {
                const uint4 seen = block[at];
                if (seen.x != stamp || seen.y != at || seen.z != (stamp ^ at) || seen.w != job)
                    atomicAdd(failures, 1ull);
            }
        }
        __syncthreads();
    }
    // 43 is prime to every count: each block once, never in the order in which they were taken.
    if (threadIdx.x == 0)
        for (unsigned step = 0; step < count; ++step)
            ref.deallocate(taken[count - 1 - step * 43u % count]);
}

template <class S>
bool run_scratch(const Cell& cell, const Case& c) {
    constexpr unsigned threads = 128;
    S subject(c.heap_bytes);
    const Pinned<unsigned long long> failures;
    Timer timer;
    auto verified = [&] {
        scratch_kernel<typename S::Ref, Check::whole_blocks><<<c.count, threads>>>(subject.ref(), failures.get());
        check(cudaGetLastError(), "scratch_kernel");
        check(cudaDeviceSynchronize(), "scratch_kernel");
        return *failures == 0;
    };
    auto failed = [&] { return cell.fail(std::to_string(*failures) + " allocations failed or words overwritten"); };
    if (!verified()) return failed();
    std::vector<double> us;
    for (bool last = false; !last;) {
        us.push_back(timer.time_us([&] {
            scratch_kernel<typename S::Ref, Check::one_word><<<c.count, threads>>>(subject.ref(), failures.get());
        }));
        last = cell.is_last(static_cast<unsigned>(us.size()));
    }
    if (!verified()) return failed();
    double pairs = 0;
    for (unsigned job = 0; job < c.count; ++job)
        pairs += scratch_blocks(job);
    cell.row("time", "us", median(us));
    cell.row("pairs", "Mpairs/s", mpairs_per_second(pairs, median(us)));
    cell.row("heap", "bytes", static_cast<double>(subject.payload_bytes()));
    return true;
}

} // namespace bench
