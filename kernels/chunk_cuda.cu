// SPDX-License-Identifier: MIT
// Heaps that grow and shrink, on CUDA. Thin: what opening and taking a chunk means is in heap/chunks.hpp.
#include "cuda_zstd/env/cuda_env.cuh"
#include "cuda_zstd/heap/chunks.hpp"
#include "kernels/chunk_launch.hpp"
#include "kernels/cuda_check.hpp"
#include "kernels/pulse.hpp"

#include <cub/block/block_scan.cuh>

namespace cuda_zstd {
namespace {

constexpr unsigned threads = 256;

__global__ void __launch_bounds__(threads) chunk_setup_kernel(const __grid_constant__ ChunkedHeap heap) {
    cuda_env env;
    HeapChunks<cuda_env>::format(env, heap.heap.base, heap.heap.layout, blockIdx.x * blockDim.x + threadIdx.x,
                                 gridDim.x * blockDim.x);
}

/// One block, so that its barriers separate the steps.
__global__ void __launch_bounds__(threads)
    chunk_open_kernel(const __grid_constant__ ChunkedHeap heap, const __grid_constant__ ChunkBatch batch,
                      const __grid_constant__ ClaimExtent extent) {
    cuda_env env;
    const Heap<cuda_env> view = Heap<cuda_env>::over(heap.heap.base, heap.heap.layout);
    const HeapChunks<cuda_env> chunks(view, heap.chunk_pages);
    if (threadIdx.x == 0 && batch.count != 0) chunks.count_opened(env, batch.count);
    for (std::uint32_t at = 0; at < batch.count; ++at)
        chunks.clear_entries(env, batch.chunks[at], threadIdx.x, blockDim.x);
    __syncthreads(); // the counts and all entries come before the bits
    for (std::uint32_t at = 0; at < batch.count; ++at)
        chunks.set_free(env, batch.chunks[at], threadIdx.x, blockDim.x);
    if (threadIdx.x == 0) chunks.set_extent(env, extent.pages, extent.near_pages);
}

/// One block: a thread for each chunk of a tile. A chunk is taken if fewer than `most` before it in the order looked
/// free, so what is taken is what was unused longest.
__global__ void __launch_bounds__(threads)
    chunk_take_kernel(const __grid_constant__ ChunkedHeap heap, std::uint32_t count, const std::uint32_t* order,
                      std::uint32_t most, Atom<std::uint32_t>* states) {
    using Scan = cub::BlockScan<std::uint32_t, threads>;
    __shared__ typename Scan::TempStorage storage;
    cuda_env env;
    const Heap<cuda_env> view = Heap<cuda_env>::over(heap.heap.base, heap.heap.layout);
    const HeapChunks<cuda_env> chunks(view, heap.chunk_pages);
    if (threadIdx.x == 0) chunks.keep_peak(env);
    __syncthreads();
    std::uint32_t free_before = 0;
    for (std::uint32_t tile = 0; tile < count; tile += threads) {
        const std::uint32_t at = tile + threadIdx.x;
        const bool is_free = at < count && chunks.looks_free(env, order[at]);
        std::uint32_t rank = 0;
        std::uint32_t all = 0;
        Scan(storage).ExclusiveSum(is_free ? 1u : 0u, rank, all);
        __syncthreads(); // the storage is used again
        ChunkState state = is_free ? ChunkState::free : ChunkState::in_use;
        if (is_free && free_before + rank < most)
            state = chunks.take_away(env, order[at]) ? ChunkState::away : ChunkState::in_use;
        if (at < count) env.store_for_host(states[at], static_cast<std::uint32_t>(state));
        free_before += all;
    }
    __syncthreads(); // all of them are taken
    if (threadIdx.x == 0) env.store_for_host(states[count], chunks.free_pages(env));
}

__global__ void pulse_kernel(const __grid_constant__ HeapArena heap, HeapPulse* pulse, std::uint64_t sequence) {
    cuda_env env;
    detail::publish_pulse(env, Heap<cuda_env>::over(heap.base, heap.layout), pulse, sequence);
}

} // namespace

namespace detail {

void chunk_setup_on_cuda(cudaStream_t stream, const ChunkedHeap& heap) {
    const std::uint32_t blocks = heap.heap.layout.page_count / (threads * 8) + 1;
    chunk_setup_kernel<<<blocks, threads, 0, stream>>>(heap);
    check_launch("chunk_setup_kernel");
}

void chunk_open_on_cuda(cudaStream_t stream, const ChunkedHeap& heap, const ChunkBatch& batch,
                        const ClaimExtent& extent) {
    chunk_open_kernel<<<1, threads, 0, stream>>>(heap, batch, extent);
    check_launch("chunk_open_kernel");
}

void chunk_take_on_cuda(cudaStream_t stream, const ChunkedHeap& heap, std::uint32_t count, const std::uint32_t* order,
                        std::uint32_t most, Atom<std::uint32_t>* states) {
    chunk_take_kernel<<<1, threads, 0, stream>>>(heap, count, order, most, states);
    check_launch("chunk_take_kernel");
}

void pulse_on_cuda(cudaStream_t stream, const HeapArena& heap, HeapPulse* pulse, std::uint64_t sequence) {
    pulse_kernel<<<1, 1, 0, stream>>>(heap, pulse, sequence);
    check_launch("pulse_kernel");
}

} // namespace detail
} // namespace cuda_zstd
