// SPDX-License-Identifier: MIT
// The ring of events on CUDA. Thin: what a place and a stamp mean is in device/event_ring.hpp.
#include "cuda_zstd/env/cuda_env.cuh"
#include "kernels/cuda_check.hpp"
#include "kernels/event_launch.hpp"

namespace cuda_zstd {
namespace {

constexpr unsigned threads = 512;

/// One block for each shard, so that its barriers separate the steps.
__global__ void __launch_bounds__(threads)
    event_drain_kernel(EventRingArea ring, DeviceEvent* events, EventDrain* results) {
    cuda_env env;
    const EventRing<cuda_env> view(ring);
    const std::uint32_t shard = blockIdx.x;
    DeviceEvent* const out = events + std::size_t{2} * ring.places * shard;
    view.begin(env, shard, threadIdx.x);
    __syncthreads();
    view.take(env, shard, out, threadIdx.x, blockDim.x);
    __syncthreads();
    view.advance(env, shard, threadIdx.x);
    __syncthreads();
    view.take(env, shard, out, threadIdx.x, blockDim.x);
    __syncthreads();
    view.end(env, shard, results + shard, threadIdx.x);
}

__global__ void event_clock_kernel(std::uint64_t* now_ns) { *now_ns = event_clock_ns(); }

} // namespace

namespace detail {

void event_drain_on_cuda(cudaStream_t stream, const EventRingArea& ring, DeviceEvent* events, EventDrain* results) {
    event_drain_kernel<<<ring.shards, threads, 0, stream>>>(ring, events, results);
    check_launch("event_drain_kernel");
}

void event_clock_on_cuda(cudaStream_t stream, std::uint64_t* now_ns) {
    event_clock_kernel<<<1, 1, 0, stream>>>(now_ns);
    check_launch("event_clock_kernel");
}

} // namespace detail
} // namespace cuda_zstd
