// SPDX-License-Identifier: MIT
// The floors: bump pointers, which hand out distinct addresses and give nothing back but all at once.
// Invariant: `used` counters lie a line of 128 B apart; what a counter has handed out never overlaps, and nothing
// beyond its part of the heap is handed out.
#pragma once

#include "../subjects.cuh"

namespace bench {

/// One address, one atomic a warp; one address for each SM, one atomic a warp; one address, one atomic a thread.
enum class Bump { one, sm, per_thread };

template <Bump kind>
struct BumpRef {
    char* base;
    unsigned long long part_units; // of each counter, in units of 16 B
    unsigned long long* used;
    unsigned counters;

    __device__ void* allocate(std::size_t wanted) const {
        const auto units = static_cast<unsigned>((wanted + 15) / 16);
        unsigned counter = 0;
        if constexpr (kind == Bump::sm) {
            asm volatile("mov.u32 %0, %%smid;" : "=r"(counter));
            counter %= counters;
        }
        unsigned long long begin = 0;
        if constexpr (kind == Bump::per_thread) {
            begin = atomicAdd(used, units);
        } else {
            unsigned before, total;
            const unsigned mask = __activemask();
            sum_over_lanes(mask, units, before, total);
            const int leader = __ffs(mask) - 1;
            if (lane() == static_cast<unsigned>(leader)) begin = atomicAdd(used + counter * 16, total);
            begin = __shfl_sync(mask, begin, leader) + before;
        }
        if (begin + units <= part_units) return at(counter, begin);
        // The own part is full: the others, one after the other.
        if constexpr (kind == Bump::sm) {
            for (unsigned other = 1; other < counters; ++other) {
                if (++counter == counters) counter = 0;
                begin = atomicAdd(used + counter * 16, units);
                if (begin + units <= part_units) return at(counter, begin);
            }
        }
        return nullptr;
    }
    __device__ void deallocate(void*) const {}

private:
    __device__ void* at(unsigned counter, unsigned long long unit) const {
        return base + (counter * part_units + unit) * 16;
    }
    static __device__ unsigned lane() {
        unsigned lane;
        asm("mov.u32 %0, %%laneid;" : "=r"(lane));
        return lane;
    }
    /// The units of the lanes before this one, and of all. A floor must be as fast as it can be: equal sizes need no
    /// sum, a whole warp takes five steps, and only parts of warps with mixed sizes add lane by lane.
    static __device__ void sum_over_lanes(unsigned mask, unsigned units, unsigned& before, unsigned& total) {
        const unsigned below = (1u << lane()) - 1;
        if (__all_sync(mask, __shfl_sync(mask, units, __ffs(mask) - 1) == units)) {
            before = units * __popc(mask & below);
            total = units * __popc(mask);
        } else if (mask == ~0u) {
            unsigned sum = units;
            for (unsigned distance = 1; distance < 32; distance *= 2) {
                const unsigned other = __shfl_up_sync(~0u, sum, distance);
                if (lane() >= distance) sum += other;
            }
            before = sum - units;
            total = __shfl_sync(~0u, sum, 31);
        } else {
            before = total = 0;
            for (unsigned left = mask; left != 0; left &= left - 1) {
                const int source = __ffs(left) - 1;
                const unsigned other = __shfl_sync(mask, units, source);
                if (below >> source & 1) before += other;
                total += other;
            }
        }
    }
};

template <Bump kind>
class BumpSubject : public SubjectDefaults {
public:
    static constexpr bool frees = false;
    using Ref = BumpRef<kind>;

    explicit BumpSubject(std::size_t heap_bytes) {
        unsigned parts = 1;
        if (kind == Bump::sm) {
            int device = 0, processors = 0;
            check(cudaGetDevice(&device), "cudaGetDevice");
            check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
                  "cudaDeviceGetAttribute");
            parts = static_cast<unsigned>(processors);
        }
        ref_.counters = parts;
        ref_.part_units = heap_bytes / parts / 256 * 16;
        check(cudaMalloc(&ref_.base, heap_bytes), "cudaMalloc");
        check(cudaMalloc(&ref_.used, std::size_t{parts} * 128), "cudaMalloc");
        reset(nullptr);
    }
    ~BumpSubject() {
        cudaFree(ref_.base);
        cudaFree(ref_.used);
    }
    BumpSubject(const BumpSubject&) = delete;
    BumpSubject& operator=(const BumpSubject&) = delete;

    Ref ref() const { return ref_; }
    void reset(cudaStream_t stream) {
        check(cudaMemsetAsync(ref_.used, 0, std::size_t{ref_.counters} * 128, stream), "cudaMemsetAsync");
    }
    std::size_t payload_bytes() const { return ref_.part_units * 16 * ref_.counters; }

private:
    Ref ref_{};
};

} // namespace bench
