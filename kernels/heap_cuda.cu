// SPDX-License-Identifier: MIT
// Set-up of a heap, and reclaim, on CUDA. Thin: what a page or a slab means is in heap/.
#include "cuda_zstd/env/cuda_env.cuh"
#include "cuda_zstd/heap/format.hpp"
#include "kernels/cuda_check.hpp"
#include "kernels/heap_launch.hpp"

namespace cuda_zstd {
namespace {

constexpr unsigned threads = 256;

__global__ void setup_kernel(HeapArena heap) {
    cuda_env env;
    format_heap(env, heap.base, heap.layout, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
}

/// One block: its threads share out the cursors and the lists.
__global__ void reclaim_kernel(HeapArena heap) {
    cuda_env env;
    const Heap<cuda_env> view = Heap<cuda_env>::over(heap.base, heap.layout);
    __shared__ bool begun;
    if (threadIdx.x == 0) {
        begun = view.supply().begin_reclaim(env) == SlabSupply<cuda_env>::Reclaim::begun;
        if (begun) view.supply().begin_whole_sweep(env);
    }
    __syncthreads();
    if (!begun) return;
    view.supply().drain(env, threadIdx.x, blockDim.x);
    __syncthreads();
    if (threadIdx.x == 0) view.supply().end_reclaim(env);
}

} // namespace

namespace detail {

void setup_on_cuda(cudaStream_t stream, const HeapArena& heap) {
    setup_kernel<<<(heap.layout.page_words() + threads - 1) / threads, threads, 0, stream>>>(heap);
    check_launch("setup_kernel");
}

void reclaim_on_cuda(cudaStream_t stream, const HeapArena& heap) {
    reclaim_kernel<<<1, threads, 0, stream>>>(heap);
    check_launch("reclaim_kernel");
}

} // namespace detail
} // namespace cuda_zstd
