// SPDX-License-Identifier: MIT
// Surveys on CUDA. Thin: what a page means is in heap/.
#include "cuda_zstd/env/cuda_env.cuh"
#include "cuda_zstd/heap/publish.hpp"
#include "kernels/compact_launch.hpp"
#include "kernels/cuda_check.hpp"

#include <cub/block/block_reduce.cuh>
#include <cuda/std/functional>

#include <algorithm>

namespace cuda_zstd {
namespace {

constexpr unsigned threads = 256;

template <class T>
__device__ T reduce_block(const T& value) {
    // Raking keeps the threads' order, which FreeRuns needs.
    using Reduce = cub::BlockReduce<T, threads, cub::BLOCK_REDUCE_RAKING>;
    __shared__ typename Reduce::TempStorage storage;
    const T result = Reduce(storage).Reduce(value, cuda::std::plus<>{});
    __syncthreads();
    return result; // in thread 0
}

/// Each block takes a contiguous stretch of pages; report_kernel joins their results.
__global__ void __launch_bounds__(threads) survey_kernel(CompactionTask task, std::uint32_t pages_per_block) {
    cuda_env env;
    if (!is_owner(env, task.work, task.launch)) return; // the same for all threads: nobody else writes this name
    const Heap<cuda_env> view = Heap<cuda_env>::over(task.heap.base, task.heap.layout);
    CompactionState& state = task.work.state();
    __shared__ std::uint32_t by_class[size_class_count];
    __shared__ std::uint32_t by_fill[fill_class_count];
    if (threadIdx.x < size_class_count) by_class[threadIdx.x] = 0;
    if (threadIdx.x < fill_class_count) by_fill[threadIdx.x] = 0;
    __syncthreads();
    const std::uint32_t begin = blockIdx.x * pages_per_block;
    const std::uint32_t end = min(begin + pages_per_block, task.work.page_count);
    SurveyPart part;
    for (std::uint32_t tile = begin; tile < end; tile += threads) {
        const std::uint32_t page = tile + threadIdx.x;
        FreeRuns run;
        if (page < end) {
            part.sums = part.sums + survey_page(env, view, page, [&](unsigned size_class, unsigned fill_class) {
                            atomicAdd(&by_class[size_class], 1u);
                            atomicAdd(&by_fill[fill_class], 1u);
                        });
            const std::uint32_t is_free =
                env.load(view.supply().pages.bits[page / 32u], Order::relaxed) >> (page % 32u) & 1u;
            run = {1, is_free, is_free, is_free};
        }
        part.runs = part.runs + reduce_block(run);
    }
    part.sums = reduce_block(part.sums);
    if (threadIdx.x == 0) task.work.parts()[blockIdx.x] = part;
    if (threadIdx.x < size_class_count && by_class[threadIdx.x] != 0)
        env.fetch_add(state.by_class[threadIdx.x], by_class[threadIdx.x], Order::relaxed);
    if (threadIdx.x < fill_class_count && by_fill[threadIdx.x] != 0)
        env.fetch_add(state.by_fill[threadIdx.x], by_fill[threadIdx.x], Order::relaxed);

    // A chunk a thread, so that a warp has a word of them; whole warps go through the loop.
    const std::uint32_t chunks = round_up<std::uint32_t>(task.grid.count(), 32u);
    for (std::uint32_t chunk = blockIdx.x * threads + threadIdx.x; chunk < chunks; chunk += gridDim.x * threads) {
        const bool is_free = chunk < task.grid.count() && is_chunk_free(env, view, task.grid, task.grid.first + chunk);
        const std::uint32_t bits = __ballot_sync(0xffffffffu, is_free);
        if (threadIdx.x % 32u != 0) continue;
        env.put_for_host(task.free_chunk_bits[chunk / 32u], bits);
        if (bits != 0) env.fetch_add(state.free_chunks, popcount(bits), Order::relaxed);
    }
}

/// One block: joins the parts and publishes.
__global__ void __launch_bounds__(threads) report_kernel(CompactionTask task, unsigned part_count) {
    cuda_env env;
    if (!is_owner(env, task.work, task.launch)) return;
    SurveyPart part;
    for (unsigned tile = 0; tile < part_count; tile += threads) {
        const unsigned index = tile + threadIdx.x;
        const SurveyPart own = index < part_count ? task.work.parts()[index] : SurveyPart{};
        part.sums = part.sums + reduce_block(own.sums);
        part.runs = part.runs + reduce_block(own.runs);
    }
    // Raw, since what is shared has no constructor.
    __shared__ alignas(HeapReport) unsigned char storage[sizeof(HeapReport)];
    HeapReport& report = *reinterpret_cast<HeapReport*>(storage);
    CompactionState& state = task.work.state();
    if (threadIdx.x == 0) {
        if (task.kind == CompactionTask::Kind::compaction) env.fetch_add(state.compactions, 1u, Order::relaxed);
        const Heap<cuda_env> view = Heap<cuda_env>::over(task.heap.base, task.heap.layout);
        report = make_report(env, view, state, task.grid, part);
        env.store(state.sequence, report.sequence, Order::relaxed);
    }
    __syncthreads();
    task.board->put(env, report, threadIdx.x, blockDim.x);
    __syncthreads();
    if (threadIdx.x != 0) return;
    task.board->announce(env, report.sequence);
    end_launch(env, task.work);
}

} // namespace

namespace detail {

void survey_on_cuda(cudaStream_t stream, const CompactionTask& task) {
    // Whole words of the page map a block, so that no two blocks read one word.
    const std::uint32_t share = (task.work.page_count + most_survey_parts - 1) / most_survey_parts;
    const std::uint32_t pages_per_block = round_up<std::uint32_t>(std::max(share, 1u), 32u);
    const unsigned blocks = (task.work.page_count + pages_per_block - 1) / pages_per_block;
    survey_kernel<<<blocks, threads, 0, stream>>>(task, pages_per_block);
    check_launch("survey_kernel");
    report_kernel<<<1, threads, 0, stream>>>(task, blocks);
    check_launch("report_kernel");
}

} // namespace detail
} // namespace cuda_zstd
