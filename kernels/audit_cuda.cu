// SPDX-License-Identifier: MIT
// The kernels for debugging. Thin: what is checked is in heap/audit.hpp and device/hardened_heap.hpp.
#include "cuda_zstd/device/hardened_audit.hpp"
#include "cuda_zstd/device/pool_heap.hpp"
#include "cuda_zstd/env/cuda_env.cuh"
#include "cuda_zstd/heap/audit.hpp"
#include "kernels/audit_launch.hpp"
#include "kernels/cuda_check.hpp"

namespace cuda_zstd {
namespace {

constexpr unsigned threads = 1024;

/// One block, so that its barriers separate the steps.
__global__ void __launch_bounds__(threads) audit_kernel(HeapArena heap, void* work, AuditReport* report) {
    cuda_env env;
    const Heap<cuda_env> view = Heap<cuda_env>::over(heap.base, heap.layout);
    const HeapAudit<cuda_env> audit(view, work);
    __shared__ CensusTally<cuda_env> census;
    census.begin(env, threadIdx.x, blockDim.x);
    audit.begin(env, threadIdx.x, blockDim.x);
    __syncthreads();
    audit.follow_lists(env, threadIdx.x, blockDim.x);
    __syncthreads();
    audit.check_pages(env, threadIdx.x, blockDim.x);
    census.count_live(env, view, threadIdx.x, blockDim.x);
    __syncthreads();
    if (threadIdx.x == 0) {
        report->finding = audit.conclude(env);
        census.conclude(env, report->census);
    }
    if constexpr (Hardening::any) {
        __shared__ LiveTally<cuda_env> tally;
        if (threadIdx.x == 0) {
            env.store(tally.blocks, std::uint64_t{0}, Order::relaxed);
            env.store(tally.bytes, std::uint64_t{0}, Order::relaxed);
            env.store(tally.records, 0u, Order::relaxed);
        }
        __syncthreads();
        const HardenedHeap<cuda_env> hardened = HardenedHeap<cuda_env>::over(heap.base, heap.layout);
        audit_blocks(env, hardened, tally, report->faults, threadIdx.x, blockDim.x);
        __syncthreads();
        if (threadIdx.x == 0) conclude_blocks(env, hardened, tally, report->faults);
    }
}

/// One warp: its lanes share out the ring.
__global__ void release_quarantine_kernel(HeapArena heap) {
    cuda_env env;
    HardenedHeap<cuda_env>::over(heap.base, heap.layout).release_quarantine(env, 0xffffffffu);
}

} // namespace

namespace detail {

void audit_on_cuda(cudaStream_t stream, const HeapArena& heap, void* work, AuditReport* report) {
    audit_kernel<<<1, threads, 0, stream>>>(heap, work, report);
    check_launch("audit_kernel");
}

void release_quarantine_on_cuda(cudaStream_t stream, const HeapArena& heap) {
    release_quarantine_kernel<<<1, cuda_env::warp_lanes, 0, stream>>>(heap);
    check_launch("release_quarantine_kernel");
}

} // namespace detail
} // namespace cuda_zstd
