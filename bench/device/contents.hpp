// SPDX-License-Identifier: MIT
// The contents of the blocks that a workload allocates: every byte of each belongs to the thread that asked for it.
//
// Invariant: the bytes that thread `index` writes depend on its number alone, so a byte that belongs to two blocks is
// wrong for one of them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define BENCH_HD __host__ __device__
#else
#define BENCH_HD
#endif

namespace bench {

/// A mixer of 32 bits; by Chris Wellons ("lowbias32").
BENCH_HD inline std::uint32_t mix(std::uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

/// How many threads allocate, and how much each.
struct Shape {
    unsigned threads;          ///< that allocate
    std::size_t fixed_bytes;   ///< 0: uniform in 4..most_bytes
    unsigned most_bytes;       ///< where sizes are mixed
    unsigned threads_per_call; ///< 1: every thread allocates; 32: one lane a warp

    BENCH_HD std::size_t bytes(unsigned index) const {
        return fixed_bytes != 0 ? fixed_bytes : 4u + mix(index) % (most_bytes - 3u);
    }
};

/// What a pass over the contents found.
struct Faults {
    unsigned long long missing = 0;     ///< null pointers
    unsigned long long wrong_bytes = 0; ///< words that another block overwrote
};

/// Writes every block over its whole length, then verifies all of them. Waits. `blocks` is on the device.
Faults write_and_verify(const Shape& shape, void* const* blocks);

/// Keeps the device busy for 50 ms, so that its clocks are those of a device at work. Waits.
void warm_up();

} // namespace bench
