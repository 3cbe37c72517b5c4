// SPDX-License-Identifier: MIT
// What a heap costs before the first call: making one, and the registers of the calls.
#pragma once

#include "uniform.cuh"

#include <chrono>
#include <memory>

namespace bench {

template <class S>
bool run_init(const Cell& cell, const Case& c) {
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    auto make_us = [&] {
        const auto begin = std::chrono::steady_clock::now();
        const auto subject = std::make_unique<S>(c.heap_bytes);
        check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
    };
    cell.row("first", "us", make_us());
    if (!S::many_heaps) return true;
    std::vector<double> us;
    for (bool last = false; !last; last = cell.is_last(static_cast<unsigned>(us.size())))
        us.push_back(make_us());
    cell.row("time", "us", median(us));
    return true;
}

template <class Ref>
__global__ void trivial_allocate_kernel(Ref ref, std::size_t bytes, void** blocks) {
    blocks[blockIdx.x * blockDim.x + threadIdx.x] = ref.allocate(bytes);
}
template <class Ref>
__global__ void trivial_free_kernel(Ref ref, void* const* blocks) {
    ref.deallocate(blocks[blockIdx.x * blockDim.x + threadIdx.x]);
}

/// The registers of a trivial kernel: those of its rare path, which is called out of line, among them.
template <class S>
bool run_registers(const Cell& cell, const Case& c) {
    cudaFuncAttributes attributes{};
    check(c.count == 0 ? cudaFuncGetAttributes(&attributes, trivial_allocate_kernel<typename S::Ref>)
                       : cudaFuncGetAttributes(&attributes, trivial_free_kernel<typename S::Ref>),
          "cudaFuncGetAttributes");
    cell.row("registers", "count", attributes.numRegs);
    cell.row("stack", "bytes", static_cast<double>(attributes.localSizeBytes));
    return true;
}

} // namespace bench
