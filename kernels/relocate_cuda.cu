// SPDX-License-Identifier: MIT
// Relocation on CUDA. Thin: what is moved and how is in heap/evacuation.hpp and kernels/relocate.hpp.
#include "cuda_zstd/env/cuda_env.cuh"
#include "kernels/cuda_check.hpp"
#include "kernels/relocate.hpp"
#include "kernels/relocate_launch.hpp"

namespace cuda_zstd {
namespace {

constexpr unsigned survey_threads = 256;
constexpr unsigned survey_blocks = 512;
constexpr unsigned move_threads = 512;

__global__ void __launch_bounds__(survey_threads)
    chunk_survey_kernel(const __grid_constant__ ChunkedHeap heap, Atom<std::uint32_t>* live) {
    cuda_env env;
    survey_chunks(env, Heap<cuda_env>::over(heap.heap.base, heap.heap.layout), heap.heap.layout.page_count,
                  heap.chunk_pages, live, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
}

/// One block, so that its barriers separate the steps, and so that what it allocates fills slabs of one processor.
__global__ void __launch_bounds__(move_threads)
    relocation_kernel(const __grid_constant__ ChunkedHeap heap, const __grid_constant__ HandleMemory table,
                      const Atom<std::uint32_t>* chosen, Atom<std::uint32_t>* held_pages) {
    cuda_env env;
    const BasicHandleRef<cuda_env> handles = table.over<cuda_env>(heap.heap);
    const Evacuation<cuda_env> evacuation(handles.heap().supply(), heap.heap.layout.page_count, heap.chunk_pages,
                                          {chosen, held_pages});
    const unsigned thread = threadIdx.x;
    evacuation.empty_stations(env, thread, move_threads);
    __syncthreads();
    evacuation.hold_slabs(env, thread, move_threads);
    __syncthreads();
    evacuation.hold_pages(env, thread, move_threads);
    __syncthreads();
    detail::move_blocks(env, handles, evacuation, thread / cuda_env::warp_lanes, move_threads / cuda_env::warp_lanes);
    __syncthreads();
    evacuation.release_pages(env, thread, move_threads);
    __syncthreads();
    evacuation.release_slabs(env, thread, move_threads);
}

} // namespace

namespace detail {

void chunk_survey_on_cuda(cudaStream_t stream, const ChunkedHeap& heap, Atom<std::uint32_t>* live) {
    chunk_survey_kernel<<<survey_blocks, survey_threads, 0, stream>>>(heap, live);
    check_launch("chunk_survey_kernel");
}

void relocation_on_cuda(cudaStream_t stream, const ChunkedHeap& heap, const HandleMemory& table,
                        const Atom<std::uint32_t>* chosen, Atom<std::uint32_t>* held_pages) {
    relocation_kernel<<<1, move_threads, 0, stream>>>(heap, table, chosen, held_pages);
    check_launch("relocation_kernel");
}

} // namespace detail
} // namespace cuda_zstd
