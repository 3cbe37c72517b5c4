// SPDX-License-Identifier: MIT
// W1, W2, W3, W5 and W8: one allocation a call, then one free; W6: where the blocks lie.
#pragma once

#include "../cases.hpp"
#include "../measure.hpp"

#include <algorithm>
#include <cstdint>

namespace bench {

inline constexpr unsigned threads_a_block = 256;
inline unsigned grid_for(std::size_t threads) {
    return static_cast<unsigned>((threads + threads_a_block - 1) / threads_a_block);
}
inline unsigned grid_for(const Shape& shape) { return grid_for(std::size_t{shape.threads} * shape.threads_per_call); }

template <class Ref>
__global__ void allocate_kernel(Ref ref, Shape shape, void** blocks) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned index = thread / shape.threads_per_call;
    if (index >= shape.threads || thread % shape.threads_per_call != 0) return;
    blocks[index] = ref.allocate(shape.bytes(index));
}

template <class Ref>
__global__ void free_kernel(Ref ref, Shape shape, void* const* blocks) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned index = thread / shape.threads_per_call;
    if (index >= shape.threads || thread % shape.threads_per_call != 0) return;
    ref.deallocate(blocks[index]);
}

/// The same grid, and nothing to do. A template, so that each subject's file has its own.
template <class Ref>
__global__ void empty_kernel(Ref) {}

template <class S>
void launch_allocate(const S& subject, const Shape& shape, void** blocks, cudaStream_t stream = nullptr) {
    allocate_kernel<<<grid_for(shape), threads_a_block, 0, stream>>>(subject.ref(), shape, blocks);
}
/// Frees, or forgets, what the shape allocated.
template <class S>
void launch_free(const S& subject, const Shape& shape, void** blocks, cudaStream_t stream = nullptr) {
    free_kernel<<<grid_for(shape), threads_a_block, 0, stream>>>(subject.ref(), shape, blocks);
}

inline Shape shape_of(const Case& c) {
    if (c.workload == Workload::mixed) return {c.count, 0, static_cast<unsigned>(c.bytes), 1};
    return {c.count, c.bytes, 0, c.workload == Workload::lane ? 32u : 1u};
}

template <class S>
bool run_uniform(const Cell& cell, const Case& c) {
    S subject(c.heap_bytes);
    const Shape shape = shape_of(c);
    const DeviceArray<void*> blocks(shape.threads);
    Timer timer;
    std::vector<double> allocate_us, free_us, empty_us;
    bool last = false;
    for (unsigned iteration = 0; !last; ++iteration) {
        last = cell.is_last(iteration);
        const double allocated = timer.time_us([&] { launch_allocate(subject, shape, blocks.get()); });
        if (iteration <= 1 || last) {
            const Faults faults = write_and_verify(shape, blocks.get());
            if (c.workload == Workload::large) {
                if (iteration == 0)
                    cell.row("supported", "fraction", 1.0 - static_cast<double>(faults.missing) / shape.threads);
                if (faults.missing != 0 && faults.wrong_bytes == 0) return cell.fail("not all blocks were given");
            }
            if (!cell.holds(faults)) return false;
        }
        const double freed = timer.time_us([&] { launch_free(subject, shape, blocks.get()); });
        subject.reset(nullptr);
        if (iteration == 0) continue; // warms up
        allocate_us.push_back(allocated);
        free_us.push_back(freed);
    }
    cell.row("alloc", "us", median(allocate_us));
    if (S::frees) cell.row("free", "us", median(free_us));
    if (c.workload == Workload::scaling) {
        for (unsigned iteration = 0; iteration <= cell.iterations(); ++iteration)
            empty_us.push_back(
                timer.time_us([&] { empty_kernel<<<grid_for(shape), threads_a_block>>>(subject.ref()); }));
        empty_us.erase(empty_us.begin());
        cell.row("empty", "us", median(empty_us));
        cell.row("alloc-net", "us", median(allocate_us) - median(empty_us));
        if (S::frees) cell.row("free-net", "us", median(free_us) - median(empty_us));
    }
    if (S::iterations < 20) return true; // too slow for more
    const auto graph = time_graph([&](cudaStream_t stream) { launch_allocate(subject, shape, blocks.get(), stream); },
                                  [&](cudaStream_t stream) { launch_free(subject, shape, blocks.get(), stream); },
                                  [&](cudaStream_t stream) { subject.reset(stream); });
    if (graph) {
        cell.row("alloc-graph", "us", graph->first_us);
        if (S::frees) cell.row("free-graph", "us", graph->second_us);
    }
    return true;
}

/// The range of the blocks' addresses over their bytes.
inline double spread_of(const Shape& shape, void* const* blocks) {
    std::vector<std::uintptr_t> addresses(shape.threads);
    check(cudaMemcpy(addresses.data(), blocks, addresses.size() * sizeof(void*), cudaMemcpyDeviceToHost), "cudaMemcpy");
    const auto [lowest, highest] = std::minmax_element(addresses.begin(), addresses.end());
    return spread(*lowest, *highest + shape.fixed_bytes, shape.fixed_bytes * shape.threads);
}

template <class S>
bool run_spread(const Cell& cell, const Case& c) {
    S subject(c.heap_bytes);
    const Shape shape = shape_of(c);
    const DeviceArray<void*> blocks(shape.threads);
    constexpr unsigned rounds = 10;
    double fresh = 0;
    for (unsigned round = 0; round <= rounds; ++round) {
        launch_allocate(subject, shape, blocks.get());
        check(cudaGetLastError(), "allocate_kernel");
        if ((round == 0 || round == rounds) && !cell.holds(write_and_verify(shape, blocks.get()))) return false;
        if (round == 0) fresh = spread_of(shape, blocks.get());
        if (round == rounds) break;
        launch_free(subject, shape, blocks.get());
        check(cudaGetLastError(), "free_kernel");
    }
    const double after = spread_of(shape, blocks.get());
    cell.row("spread-fresh", "ratio", fresh);
    cell.row("spread-ten", "ratio", after);
    return true;
}

} // namespace bench
