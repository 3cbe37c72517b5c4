// SPDX-License-Identifier: MIT
// Compactions on CUDA. Thin: what is done to a page, a cursor or a list is in heap/; here are the grids, CUB's radix
// sort of the whole heap's slabs, and its merge sort of one list's.
#include "cuda_zstd/env/cuda_env.cuh"
#include "cuda_zstd/heap/compact_online.hpp"
#include "cuda_zstd/heap/compact_quiet.hpp"
#include "cuda_zstd/host/error.hpp"
#include "kernels/compact_launch.hpp"
#include "kernels/cuda_check.hpp"

#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/device/device_radix_sort.cuh>
#include <cub/warp/warp_merge_sort.cuh>

#include <algorithm>
#include <string>

namespace cuda_zstd {
namespace {

constexpr unsigned threads = 256;
constexpr unsigned warp_lanes = cuda_env::warp_lanes;

unsigned blocks_for(std::uint32_t items) { return (items + threads - 1) / threads; }

/// One thread.
__global__ void begin_kernel(CompactionTask task) {
    cuda_env env;
    if (!begin_launch(env, task.work, task.launch, size_class_count * task.heap.layout.stations)) return;
    if (task.kind == CompactionTask::Kind::compaction) env.store(task.work.state().retired_slabs, 0u, Order::relaxed);
}

/// One thread.
__global__ void abandon_kernel(CompactionTask task) {
    cuda_env env;
    std::uint32_t own = task.launch;
    env.compare_exchange(task.work.state().owner, own, 0u, Order::acq_rel);
}

// The quiet form. A launch whose area belongs to another does nothing in any of its kernels. All before the last one
// write to the work area alone, so where one of them cannot be launched, the heap is as it was.

/// A thread a page.
__global__ void __launch_bounds__(threads) rank_kernel(CompactionTask task) {
    cuda_env env;
    if (!is_owner(env, task.work, task.launch)) return;
    const Heap<cuda_env> view = Heap<cuda_env>::over(task.heap.base, task.heap.layout);
    const QuietCompaction<cuda_env> compaction(view, task.work);
    __shared__ std::uint32_t ranked[size_class_count];
    if (threadIdx.x < size_class_count) ranked[threadIdx.x] = 0;
    __syncthreads();
    const std::uint32_t page = blockIdx.x * threads + threadIdx.x;
    if (page < task.work.page_count) {
        const std::uint16_t rank = compaction.rank(env, page);
        if (compaction.is_place(rank)) atomicAdd(&ranked[SlabRank::size_class(rank)], 1u);
    }
    __syncthreads();
    if (threadIdx.x < size_class_count && ranked[threadIdx.x] != 0)
        env.fetch_add(task.work.state().ranked[threadIdx.x], ranked[threadIdx.x], Order::relaxed);
}

/// A thread a station of a class.
__global__ void __launch_bounds__(threads) keep_kernel(CompactionTask task) {
    cuda_env env;
    if (!is_owner(env, task.work, task.launch)) return;
    const Heap<cuda_env> view = Heap<cuda_env>::over(task.heap.base, task.heap.layout);
    const QuietCompaction<cuda_env> compaction(view, task.work);
    const std::uint32_t cell = blockIdx.x * threads + threadIdx.x;
    if (cell < compaction.station_cells()) compaction.keep(env, cell);
}

/// A thread for each page or station, whichever are more. The only one that changes the heap.
__global__ void __launch_bounds__(threads) apply_kernel(CompactionTask task) {
    cuda_env env;
    if (!is_owner(env, task.work, task.launch)) return;
    const Heap<cuda_env> view = Heap<cuda_env>::over(task.heap.base, task.heap.layout);
    const QuietCompaction<cuda_env> compaction(view, task.work);
    using Scan = cub::BlockScan<std::uint32_t, threads>;
    using Reduce = cub::BlockReduce<std::uint32_t, threads>;
    __shared__ union {
        typename Scan::TempStorage scan;
        typename Reduce::TempStorage reduce;
    } storage;
    __shared__ std::uint32_t begin_of[size_class_count + 1];
    static_assert(size_class_count < threads);
    std::uint32_t before = 0;
    if (threadIdx.x < size_class_count) before = env.load(task.work.state().ranked[threadIdx.x], Order::relaxed);
    Scan(storage.scan).ExclusiveSum(before, before);
    if (threadIdx.x <= size_class_count) begin_of[threadIdx.x] = before;
    __syncthreads();
    const std::uint32_t freed = compaction.apply(env, blockIdx.x * threads + threadIdx.x, begin_of);
    const std::uint32_t pages = Reduce(storage.reduce).Sum(freed);
    const auto slabs = static_cast<std::uint32_t>(__syncthreads_count(freed != 0));
    if (threadIdx.x == 0) compaction.add_free_pages(env, slabs, pages);
}

// The online form.

constexpr unsigned online_warps = 4;
constexpr unsigned items_per_lane = most_ordered_slabs / warp_lanes;
using Order32 = ListOrder<cuda_env>;
using Sort = cub::WarpMergeSort<std::uint32_t, items_per_lane, warp_lanes, std::uint32_t>;

/// Sorts the segment by rank; returns the slabs that are left.
__device__ std::uint32_t sort_segment(Order32::Segment& segment, Sort::TempStorage& storage) {
    const unsigned lane = threadIdx.x % warp_lanes;
    std::uint32_t ranks[items_per_lane];
    std::uint32_t slabs[items_per_lane];
    std::uint32_t left = 0;
    for (unsigned item = 0; item < items_per_lane; ++item) {
        const std::uint32_t index = lane * items_per_lane + item;
        const bool is_there = index < segment.count && segment.ranks[index] != SlabRank::none;
        ranks[item] = is_there ? segment.ranks[index] : SlabRank::none;
        slabs[item] = is_there ? segment.slabs[index] : 0u;
        left += popcount(__ballot_sync(0xffffffffu, is_there));
    }
    __syncwarp();
    Sort(storage).Sort(ranks, slabs, [](std::uint32_t a, std::uint32_t b) { return a < b; });
    __syncwarp();
    for (unsigned item = 0; item < items_per_lane; ++item)
        segment.slabs[lane * items_per_lane + item] = slabs[item];
    __syncwarp();
    return left;
}

/// What a warp does with one list; the whole warp calls.
__device__ void order_by_warp(cuda_env& env, const Order32& order, Order32::Segment& segment,
                              Sort::TempStorage& storage, const CompactionTask& task, std::uint32_t given,
                              std::uint32_t budget_slabs) {
    const unsigned lane = threadIdx.x % warp_lanes;
    CompactionState& state = task.work.state();
    bool has_empty_below = false;
    if (lane == 0) {
        const unsigned from_cursor = order.drain_cursor(env);
        if (from_cursor != 0) env.fetch_add(state.retired_slabs, from_cursor, Order::relaxed);
        order.walk(env, segment, budget_slabs);
        if (segment.count != 0 && budget_slabs != whole_heap) {
            // The budget is shared by all warps: what is walked is reserved, and what is too much given back.
            const std::uint32_t before = env.fetch_add(state.slabs, segment.count, Order::relaxed);
            const std::uint32_t room = before < budget_slabs ? budget_slabs - before : 0u;
            if (room < segment.count) {
                env.fetch_sub(state.slabs, segment.count - room, Order::relaxed);
                Order32::shorten(segment, room);
                if (room == 0) env.fetch_min(state.stopped_at, given, Order::relaxed);
            }
        } else if (segment.count != 0) {
            has_empty_below = order.has_empty_below(env, segment);
        }
    }
    has_empty_below = __shfl_sync(0xffffffffu, has_empty_below, 0);
    __syncwarp(); // the segment is there
    bool is_in_order = !has_empty_below;
    for (std::uint32_t index = lane; is_in_order && index < segment.count; index += warp_lanes)
        is_in_order = order.is_in_place(env, segment, index);
    if (__all_sync(0xffffffffu, is_in_order)) return;
    bool taken = false;
    if (lane == 0) taken = segment.count != 0 && order.take(env, segment);
    taken = __shfl_sync(0xffffffffu, taken, 0);
    __syncwarp(); // the first lane's acquire, and the segment, hold for all from here
    if (!taken) return;
    std::uint32_t retired = 0;
    for (std::uint32_t index = lane; index < segment.count; index += warp_lanes)
        retired += order.rank(env, segment, index);
    __syncwarp();
    const std::uint32_t left = sort_segment(segment, storage);
    for (std::uint32_t index = lane; index < left; index += warp_lanes)
        order.link(env, segment, index, left);
    __syncwarp(); // the links come before the push that releases them
    if (lane == 0) order.put_back(env, segment, left);
    __syncwarp(); // and the push before what is said of the slabs
    for (std::uint32_t index = lane; index < left; index += warp_lanes)
        order.publish(env, segment, index);
    retired = env.warp_sum(retired);
    __syncwarp(); // all of the move comes before its end
    if (lane != 0) return;
    order.end(env);
    if (has_empty_below) retired += order.retire_all(env);
    if (retired != 0) env.fetch_add(state.retired_slabs, retired, Order::relaxed);
}

/// A warp a list, as long as there are lists and the budget lasts.
__global__ void __launch_bounds__(online_warps* warp_lanes)
    online_kernel(CompactionTask task, std::uint32_t budget_slabs) {
    cuda_env env;
    if (!is_owner(env, task.work, task.launch)) return;
    __shared__ Order32::Segment segments[online_warps];
    __shared__ Sort::TempStorage storages[online_warps];
    const unsigned warp = threadIdx.x / warp_lanes;
    const Heap<cuda_env> view = Heap<cuda_env>::over(task.heap.base, task.heap.layout);
    CompactionState& state = task.work.state();
    const std::uint32_t stations = task.heap.layout.stations;
    const std::uint32_t lists = size_class_count * stations;
    const std::uint32_t first = env.load(state.first_list, Order::relaxed);
    for (;;) {
        std::uint32_t given = lists;
        if (threadIdx.x % warp_lanes == 0 &&
            (budget_slabs == whole_heap || env.load(state.slabs, Order::relaxed) < budget_slabs))
            given = env.fetch_add(state.lists, 1u, Order::relaxed);
        given = __shfl_sync(0xffffffffu, given, 0);
        if (given >= lists) return;
        const std::uint32_t index = (first + given) % lists;
        const Order32 order(view.supply(), index / stations, index % stations);
        order_by_warp(env, order, segments[warp], storages[warp], task, given, budget_slabs);
        __syncwarp(); // the segment is used again
    }
}

void check_sort(cudaError_t error) {
    if (detail::launch_fault.is_due()) error = cudaErrorLaunchOutOfResources;
    if (error != cudaSuccess) throw cuda_error(std::string("sorting slabs failed: ") + cudaGetErrorString(error));
}

} // namespace

namespace detail {

std::size_t sort_bytes_on_cuda(std::uint32_t page_count) {
    std::size_t bytes = 0;
    const std::uint16_t* ranks = nullptr;
    std::uint16_t* sorted_ranks = nullptr;
    const std::uint32_t* slabs = nullptr;
    std::uint32_t* sorted_slabs = nullptr;
    const cudaError_t error =
        cub::DeviceRadixSort::SortPairs(nullptr, bytes, ranks, sorted_ranks, slabs, sorted_slabs, page_count, 0, 16);
    if (error != cudaSuccess) throw cuda_error(std::string("asking CUB failed: ") + cudaGetErrorString(error));
    return bytes;
}

void begin_on_cuda(cudaStream_t stream, const CompactionTask& task) {
    begin_kernel<<<1, 1, 0, stream>>>(task);
    check_launch("begin_kernel");
}

void abandon_on_cuda(cudaStream_t stream, const CompactionTask& task) noexcept {
    abandon_kernel<<<1, 1, 0, stream>>>(task);
    (void)cudaGetLastError();
}

void quiet_on_cuda(cudaStream_t stream, const CompactionTask& task) {
    const CompactionWork& work = task.work;
    const std::uint32_t cells = size_class_count * task.heap.layout.stations;
    rank_kernel<<<blocks_for(work.page_count), threads, 0, stream>>>(task);
    check_launch("rank_kernel");
    keep_kernel<<<blocks_for(cells), threads, 0, stream>>>(task);
    check_launch("keep_kernel");
    std::size_t sort_bytes = work.sort_bytes;
    // Sorting the arrays of a launch that does not own them would disturb their owner's: a graph's compaction in its
    // quiet form promises that there is none.
    check_sort(cub::DeviceRadixSort::SortPairs(
        work.sort_area(), sort_bytes, static_cast<const std::uint16_t*>(work.ranks()), work.sorted_ranks(),
        static_cast<const std::uint32_t*>(work.slabs()), work.sorted_slabs(), work.page_count, 0, 16, stream));
    apply_kernel<<<blocks_for(std::max(work.page_count, cells)), threads, 0, stream>>>(task);
    check_launch("apply_kernel");
}

void online_on_cuda(cudaStream_t stream, const CompactionTask& task, std::uint32_t budget_slabs) {
    const std::uint32_t lists = size_class_count * task.heap.layout.stations;
    const std::uint32_t warps = std::min(lists, budget_slabs);
    online_kernel<<<(warps + online_warps - 1) / online_warps, online_warps * warp_lanes, 0, stream>>>(task,
                                                                                                       budget_slabs);
    check_launch("online_kernel");
}

} // namespace detail
} // namespace cuda_zstd
