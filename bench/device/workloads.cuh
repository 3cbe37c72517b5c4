// SPDX-License-Identifier: MIT
// The workloads, each over any subject.
// Every pointer is written over its whole length and verified on the first and the last iteration; a block lost to null
// or a byte that another thread overwrote ends the case with an error, not with a time.
#pragma once

#include "bench_support.cuh"

namespace bench {

struct Shape {
    unsigned threads;     ///< that allocate
    unsigned fixed_bytes; ///< 0: uniform in 4..most_bytes
    unsigned most_bytes;
    unsigned threads_a_lane; ///< 1: every thread allocates; 32: one lane a warp
    __host__ __device__ unsigned bytes(unsigned index) const {
        return fixed_bytes != 0 ? fixed_bytes : 4u + mix(index) % (most_bytes - 3u);
    }
};

template <class Ref>
__global__ void allocate_kernel(Ref ref, Shape shape, void** blocks) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned index = thread / shape.threads_a_lane;
    if (index >= shape.threads || thread % shape.threads_a_lane != 0) return;
    blocks[index] = ref.allocate(shape.bytes(index));
}

template <class Ref>
__global__ void free_kernel(Ref ref, Shape shape, void** blocks) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned index = thread / shape.threads_a_lane;
    if (index >= shape.threads || thread % shape.threads_a_lane != 0) return;
    ref.deallocate(blocks[index]);
}

/// A block of threads a block of memory: writes the owner's number over its whole length, or verifies it.
enum class Pass { write, verify };
__global__ void contents_kernel(Shape shape, void* const* blocks, Pass pass, unsigned long long* errors) {
    for (unsigned index = blockIdx.x; index < shape.threads; index += gridDim.x) {
        auto* const bytes = static_cast<unsigned char*>(blocks[index]);
        if (bytes == nullptr) {
            if (threadIdx.x == 0) atomicAdd(errors, 1ull);
            continue;
        }
        for (unsigned at = threadIdx.x; at < shape.bytes(index); at += blockDim.x) {
            const auto stamp = static_cast<unsigned char>(mix(index) >> (at % 4 * 8));
            if (pass == Pass::write) {
                bytes[at] = stamp;
            } else if (bytes[at] != stamp) {
                atomicAdd(errors, 1ull);
            }
        }
    }
}

template <class Ref>
__global__ void churn_kernel(Ref ref, unsigned threads, unsigned pairs, unsigned long long* failures) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= threads) return;
    for (unsigned pair = 0; pair < pairs; ++pair) {
        auto* const block = static_cast<unsigned*>(ref.allocate(16 + mix(thread * 131 + pair) % 1009));
        if (block == nullptr) {
            atomicAdd(failures, 1ull);
            continue;
        }
        *block = thread;
        ref.deallocate(block);
    }
}

template <class Ref>
__global__ void fill_kernel(Ref ref, unsigned bytes, unsigned threads, unsigned long long* count) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < threads && ref.allocate(bytes) != nullptr) atomicAdd(count, 1ull);
}

inline unsigned grid(unsigned threads) { return (threads + 255) / 256; }

/// W1, W2, W3: one allocation a thread, then one free.
template <class Subject>
int uniform(const std::string& name, std::size_t heap_bytes, const Shape& shape, unsigned iterations) {
    Subject subject(heap_bytes);
    Timer timer;
    void** blocks = nullptr;
    unsigned long long* errors = nullptr;
    check(cudaMalloc(&blocks, shape.threads * sizeof(void*)), "cudaMalloc");
    check(cudaMallocHost(&errors, sizeof *errors), "cudaMallocHost");
    *errors = 0;
    const unsigned blocks_of_threads = grid(shape.threads * shape.threads_a_lane);
    std::vector<double> allocate_us, free_us;
    for (unsigned iteration = 0; iteration <= iterations; ++iteration) {
        const double allocated =
            timer.time_us([&] { allocate_kernel<<<blocks_of_threads, 256>>>(subject.ref(), shape, blocks); });
        if (iteration <= 1 || iteration == iterations) {
            contents_kernel<<<4096, 128>>>(shape, blocks, Pass::write, errors);
            contents_kernel<<<4096, 128>>>(shape, blocks, Pass::verify, errors);
            check(cudaDeviceSynchronize(), "verification");
            if (*errors != 0) {
                std::fprintf(stderr, "device_bench: %s %s: %llu blocks missing or bytes overwritten\n", Subject::name,
                             name.c_str(), *errors);
                return 1;
            }
        }
        const double freed =
            timer.time_us([&] { free_kernel<<<blocks_of_threads, 256>>>(subject.ref(), shape, blocks); });
        subject.reset();
        if (iteration == 0) continue; // warms up
        allocate_us.push_back(allocated);
        free_us.push_back(freed);
    }
    row(Subject::name, name, "alloc", "us", median(allocate_us));
    if (Subject::frees) row(Subject::name, name, "free", "us", median(free_us));
    return 0;
}

/// W4: pairs of allocate and free in one kernel.
template <class Subject>
int churn(const std::string& name, std::size_t heap_bytes, unsigned threads, unsigned pairs, unsigned iterations) {
    Subject subject(heap_bytes);
    Timer timer;
    unsigned long long* failures = nullptr;
    check(cudaMallocHost(&failures, sizeof *failures), "cudaMallocHost");
    *failures = 0;
    std::vector<double> us;
    for (unsigned iteration = 0; iteration <= iterations; ++iteration) {
        const double time =
            timer.time_us([&] { churn_kernel<<<grid(threads), 256>>>(subject.ref(), threads, pairs, failures); });
        if (iteration != 0) us.push_back(time);
    }
    if (*failures != 0) {
        std::fprintf(stderr, "device_bench: %s %s: %llu allocations failed\n", Subject::name, name.c_str(), *failures);
        return 1;
    }
    row(Subject::name, name, "pairs", "Mpairs/s", double(threads) * pairs / median(us));
    return 0;
}

/// W7: one size until null; the share of the heap that became payload, and the time of a kernel whose calls all fail.
template <class Subject>
int fill(const std::string& name, std::size_t heap_bytes, unsigned bytes) {
    Subject subject(heap_bytes);
    Timer timer;
    unsigned long long* count = nullptr;
    check(cudaMallocHost(&count, sizeof *count), "cudaMallocHost");
    *count = 0;
    unsigned long long before;
    do {
        before = *count;
        fill_kernel<<<grid(1u << 20), 256>>>(subject.ref(), bytes, 1u << 20, count);
        check(cudaDeviceSynchronize(), "fill_kernel");
    } while (*count != before);
    row(Subject::name, name, "share", "fraction", double(*count) * bytes / subject.payload_bytes());
    const double us = timer.time_us([&] { fill_kernel<<<grid(100000), 256>>>(subject.ref(), bytes, 100000, count); });
    row(Subject::name, name, "failing", "us", us);
    return 0;
}

} // namespace bench
