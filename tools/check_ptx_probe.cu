// SPDX-License-Identifier: MIT
// Kernels that use every way to take and give memory in a kernel, for tools/check_ptx.py to look at. Never run.
#include "cuda_zstd/device/warp_pool_vector.hpp"
#include "cuda_zstd_device_pool.cuh"

using cuda_zstd::cuda_env;
using cuda_zstd::DevicePoolRef;

/// The trivial kernels whose registers are reported.
__global__ void malloc_kernel(DevicePoolRef pool, void** blocks, unsigned count, std::size_t bytes) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < count) blocks[thread] = pool.allocate(bytes);
}
__global__ void free_kernel(DevicePoolRef pool, void** blocks, unsigned count) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < count) pool.deallocate(blocks[thread]);
}

__global__ void warp_kernel(DevicePoolRef pool, std::size_t bytes) {
    void* const block = pool.allocate_warp(bytes);
    if (pool.usable_size(block) >= bytes) pool.deallocate_warp(block);
}
__global__ void block_kernel(DevicePoolRef pool, std::size_t bytes) {
    void* const block = pool.allocate_block(bytes);
    pool.deallocate_block(block);
}
__global__ void vector_kernel(DevicePoolRef pool, unsigned count) {
    cuda_env env;
    cuda_zstd::WarpPoolVector<std::uint64_t, cuda_env, cuda_zstd::BasicPoolRef<cuda_env>> list;
    auto basic = pool.basic();
    for (unsigned i = 0; i < count; ++i)
        list.push_back(env, basic, i);
    list.clear(env, basic);
}
__global__ void scratch_kernel(DevicePoolRef pool, std::size_t bytes) {
    cuda_env env;
    cuda_zstd::ScratchFrame<cuda_env> frame(env, pool.basic(), bytes);
    frame.allocate(bytes);
}

__global__ void group_kernel(DevicePoolRef pool, void** blocks, std::size_t bytes) {
    const auto tile = cooperative_groups::tiled_partition<8>(cooperative_groups::this_thread_block());
    pool.allocate_many(tile, bytes, 20, blocks + threadIdx.x / 8u * 20u);
    pool.deallocate_many(tile, 20, blocks + threadIdx.x / 8u * 20u);
}
__global__ void append_kernel(cuda_zstd::PoolVectorRef<unsigned> list) { list.push_back(threadIdx.x); }
