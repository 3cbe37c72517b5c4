// SPDX-License-Identifier: MIT
// The floors: bump pointers, which give nothing back but all at once.
// "floor-one": one address, one atomic a warp. "floor-sm": one address for each SM. "bump-per-thread": one address, one
// atomic a thread.
#pragma once

#include "../bench_support.cuh"

namespace bench {

enum class Bump { one, sm, per_thread };

template <Bump kind>
struct BumpRef {
    char* base;
    unsigned long long capacity_bytes; // of each counter's part
    unsigned long long* used;          // a line of 128 B for each counter
    unsigned counters;

    __device__ void* allocate(std::size_t wanted) const {
        const unsigned long long bytes = (wanted + 15) & ~15ull;
        unsigned counter = 0;
        if constexpr (kind == Bump::sm) {
            asm volatile("mov.u32 %0, %%smid;" : "=r"(counter));
            counter %= counters;
        }
        unsigned long long begin;
        if constexpr (kind == Bump::per_thread) {
            begin = atomicAdd(used, bytes);
        } else {
            // Lanes of different sizes: an exclusive sum over the warp, then one atomic.
            const unsigned mask = __activemask();
            unsigned lane;
            asm("mov.u32 %0, %%laneid;" : "=r"(lane));
            unsigned long long before = 0, total = bytes;
            if (__all_sync(mask, __shfl_sync(mask, bytes, __ffs(mask) - 1) == bytes)) {
                before = bytes * __popc(mask & ((1u << lane) - 1));
                total = bytes * __popc(mask);
            } else {
                total = 0;
                for (unsigned left = mask; left != 0; left &= left - 1) {
                    const unsigned source = __ffs(left) - 1;
                    const unsigned long long other = __shfl_sync(mask, bytes, source);
                    if (source < lane) before += other;
                    total += other;
                }
            }
            const unsigned leader = __ffs(mask) - 1;
            if (lane == leader) begin = atomicAdd(used + counter * 16, total);
            begin = __shfl_sync(mask, begin, leader) + before;
        }
        return begin + bytes <= capacity_bytes ? base + counter * capacity_bytes + begin : nullptr;
    }
    __device__ void deallocate(void*) const {}
};

template <Bump kind>
class BumpSubject {
public:
    static constexpr const char* name = kind == Bump::one  ? "floor-one"
                                        : kind == Bump::sm ? "floor-sm"
                                                           : "bump-per-thread";
    static constexpr bool frees = false;
    using Ref = BumpRef<kind>;

    explicit BumpSubject(std::size_t heap_bytes) {
        ref_.counters = kind == Bump::sm ? processors() : 1;
        ref_.capacity_bytes = heap_bytes / ref_.counters & ~255ull;
        check(cudaMalloc(&ref_.base, heap_bytes), "cudaMalloc");
        check(cudaMalloc(&ref_.used, ref_.counters * 128), "cudaMalloc");
        reset();
    }
    Ref ref() const { return ref_; }
    void reset() { check(cudaMemset(ref_.used, 0, ref_.counters * 128), "cudaMemset"); }
    std::size_t payload_bytes() const { return ref_.capacity_bytes * ref_.counters; }

private:
    Ref ref_{};
};

} // namespace bench
