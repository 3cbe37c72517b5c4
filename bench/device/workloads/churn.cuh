// SPDX-License-Identifier: MIT
// W4: every thread allocates and frees again and again in one kernel.
#pragma once

#include "uniform.cuh"

namespace bench {

enum class Check { one_word, whole_blocks };

/// `failures` counts nulls, and with `whole_blocks` the words that were not as the thread had written them.
template <class Ref, Check check_kind>
__global__ void churn_kernel(Ref ref, unsigned threads, unsigned pairs, unsigned long long* failures) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= threads) return;
    for (unsigned pair = 0; pair < pairs; ++pair) {
        const unsigned bytes = 16 + mix(thread * 131 + pair) % 1009;
        auto* const block = static_cast<volatile unsigned*>(ref.allocate(bytes));
        if (block == nullptr) {
            atomicAdd(failures, 1ull);
            continue;
        }
        if constexpr (check_kind == Check::one_word) {
            *block = thread;
        } else {
            for (unsigned at = 0; at < bytes / 4; ++at)
                block[at] = thread + at;
            for (unsigned at = 0; at < bytes / 4; ++at)
                if (block[at] != thread + at) atomicAdd(failures, 1ull);
        }
        ref.deallocate(const_cast<unsigned*>(block));
    }
}

template <class S>
bool run_churn(const Cell& cell, const Case& c) {
    constexpr unsigned pairs = 50;
    S subject(c.heap_bytes);
    const Pinned<unsigned long long> failures;
    Timer timer;
    auto verified = [&] {
        churn_kernel<typename S::Ref, Check::whole_blocks>
            <<<grid_for(c.count), threads_a_block>>>(subject.ref(), c.count, pairs, failures.get());
        check(cudaGetLastError(), "churn_kernel");
        check(cudaDeviceSynchronize(), "churn_kernel");
        return *failures == 0;
    };
    auto failed = [&] { return cell.fail(std::to_string(*failures) + " allocations failed or words overwritten"); };
    // The first run warms up and verifies, and so does one after the last.
    if (!verified()) return failed();
    std::vector<double> us;
    for (bool last = false; !last;) {
        us.push_back(timer.time_us([&] {
            churn_kernel<typename S::Ref, Check::one_word>
                <<<grid_for(c.count), threads_a_block>>>(subject.ref(), c.count, pairs, failures.get());
        }));
        last = cell.is_last(static_cast<unsigned>(us.size()));
    }
    if (!verified()) return failed();
    cell.row("pairs", "Mpairs/s", mpairs_per_second(static_cast<double>(c.count) * pairs, median(us)));
    return true;
}

} // namespace bench
