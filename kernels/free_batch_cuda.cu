// SPDX-License-Identifier: MIT
// Frees by the host, on CUDA: one thread a block.
#include "cuda_zstd/env/cuda_env.cuh"
#include "kernels/cuda_check.hpp"
#include "kernels/free_batch.hpp"

namespace cuda_zstd {
namespace {

__global__ void __launch_bounds__(most_batch_blocks)
    free_batch_kernel(const __grid_constant__ HeapArena heap, const __grid_constant__ FreeBatch batch, BadFreeLog log) {
    cuda_env env;
    if (threadIdx.x >= batch.count) return;
    detail::free_logged(env, PoolHeap<cuda_env>::over(heap.base, heap.layout), batch.blocks[threadIdx.x], log);
}

static_assert(sizeof(HeapArena) + sizeof(FreeBatch) + sizeof(BadFreeLog) <= 4096 - 32);

} // namespace

void detail::free_batch_on_cuda(cudaStream_t stream, const HeapArena& heap, const FreeBatch& batch,
                                const BadFreeLog& log) {
    const std::uint32_t threads = (batch.count + 31u) / 32u * 32u;
    free_batch_kernel<<<1, threads, 0, stream>>>(heap, batch, log);
    check_launch("free_batch_kernel");
}

} // namespace cuda_zstd
