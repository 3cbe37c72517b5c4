// SPDX-License-Identifier: MIT
// The heap's own kernels on CUDA: set-up, reclaim, survey. Thin: what a page or a slab means is in heap/.
#include "cuda_zstd/env/cuda_env.cuh"
#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd/heap/publish.hpp"
#include "kernels/cuda_check.hpp"
#include "kernels/heap_launch.hpp"

#include <cub/block/block_reduce.cuh>
#include <cuda/std/functional>

#include <algorithm>

namespace cuda_zstd {
namespace {

constexpr unsigned threads = 256;
/// Blocks of a survey; each takes a contiguous stretch of pages, and one block joins their results.
constexpr unsigned survey_blocks = 512;

struct SurveyPart {
    HeapSums sums;
    FreeRuns runs;
};

__global__ void setup_kernel(HeapArena heap) {
    cuda_env env;
    format_heap(env, heap.base, heap.layout, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
}

/// One block: its threads share out the cursors and the lists.
__global__ void reclaim_kernel(HeapArena heap) {
    cuda_env env;
    const Heap<cuda_env> view = Heap<cuda_env>::over(heap.base, heap.layout);
    __shared__ bool begun;
    if (threadIdx.x == 0) begun = view.supply().begin_reclaim(env) == SlabSupply<cuda_env>::Reclaim::begun;
    __syncthreads();
    if (!begun) return;
    view.supply().drain(env, threadIdx.x, blockDim.x);
    __syncthreads();
    if (threadIdx.x == 0) view.supply().end_reclaim(env);
}

template <class T>
__device__ T reduce_block(const T& value) {
    // Raking keeps the threads' order, which FreeRuns needs.
    using Reduce = cub::BlockReduce<T, threads, cub::BLOCK_REDUCE_RAKING>;
    __shared__ typename Reduce::TempStorage storage;
    const T result = Reduce(storage).Reduce(value, cuda::std::plus<>{});
    __syncthreads();
    return result; // in thread 0
}

__global__ void survey_kernel(HeapArena heap, std::uint32_t pages_per_block, SurveyPart* parts) {
    cuda_env env;
    const Heap<cuda_env> view = Heap<cuda_env>::over(heap.base, heap.layout);
    const std::uint32_t begin = blockIdx.x * pages_per_block;
    const std::uint32_t end = min(begin + pages_per_block, heap.layout.page_count);
    SurveyPart part;
    for (std::uint32_t tile = begin; tile < end; tile += threads) {
        const std::uint32_t page = tile + threadIdx.x;
        FreeRuns run;
        if (page < end) {
            part.sums = part.sums + survey_page(env, view, page);
            const std::uint32_t is_free =
                env.load(view.supply().pages.bits[page / 32u], Order::relaxed) >> (page % 32u) & 1u;
            run = {1, is_free, is_free, is_free};
        }
        part.runs = part.runs + reduce_block(run);
    }
    part.sums = reduce_block(part.sums);
    if (threadIdx.x == 0) parts[blockIdx.x] = part;
}

__global__ void report_kernel(HeapArena heap, const SurveyPart* parts, unsigned count, HeapReport* report,
                              std::uint64_t sequence) {
    cuda_env env;
    SurveyPart part;
    for (unsigned tile = 0; tile < count; tile += threads) {
        const unsigned index = tile + threadIdx.x;
        const SurveyPart own = index < count ? parts[index] : SurveyPart{};
        part.sums = part.sums + reduce_block(own.sums);
        part.runs = part.runs + reduce_block(own.runs);
    }
    if (threadIdx.x == 0) {
        const Heap<cuda_env> view = Heap<cuda_env>::over(heap.base, heap.layout);
        publish_report(env, make_report(env, view, part.sums, part.runs), report, sequence);
    }
}

} // namespace

std::size_t survey_work_bytes() { return survey_blocks * sizeof(SurveyPart); }

namespace detail {

void setup_on_cuda(cudaStream_t stream, const HeapArena& heap) {
    setup_kernel<<<(heap.layout.page_words() + threads - 1) / threads, threads, 0, stream>>>(heap);
    check_launch("setup_kernel");
}

void reclaim_on_cuda(cudaStream_t stream, const HeapArena& heap) {
    reclaim_kernel<<<1, threads, 0, stream>>>(heap);
    check_launch("reclaim_kernel");
}

void survey_on_cuda(cudaStream_t stream, const HeapArena& heap, void* work, HeapReport* report,
                    std::uint64_t sequence) {
    // Whole words of the page map a block, so that no two blocks read one word.
    const std::uint32_t share = (heap.layout.page_count + survey_blocks - 1) / survey_blocks;
    const std::uint32_t pages_per_block = round_up<std::uint32_t>(std::max(share, 1u), 32u);
    const unsigned blocks = (heap.layout.page_count + pages_per_block - 1) / pages_per_block;
    auto* const parts = static_cast<SurveyPart*>(work);
    survey_kernel<<<blocks, threads, 0, stream>>>(heap, pages_per_block, parts);
    check_launch("survey_kernel");
    report_kernel<<<1, threads, 0, stream>>>(heap, parts, blocks, report, sequence);
    check_launch("report_kernel");
}

} // namespace detail
} // namespace cuda_zstd
