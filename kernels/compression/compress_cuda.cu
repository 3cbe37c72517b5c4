// SPDX-License-Identifier: MIT
// The chunk compressor on CUDA: one warp a chunk. Thin: what a chunk needs is in frame_writer.hpp.
#include "frame_writer.hpp"
#include "launch.hpp"

#include "cuda_zstd/env/cuda_env.cuh"
#include "kernels/cuda_check.hpp"

#include <cub/device/device_scan.cuh>

namespace cuda_zstd::compression::detail {
namespace {

using Workspace = cuda_zstd::detail::ChunkWorkspace<cuda_env>;
using PoolRef = BasicPoolRef<cuda_env>;

__device__ const cuda_zstd::detail::FseTables fse_tables = cuda_zstd::detail::make_fse_tables();

constexpr unsigned warp_threads = 32;
constexpr unsigned gather_warps = 8;

/// A block is one warp, so that the hardware's scheduler shares chunks out as warps end.
__global__ void __launch_bounds__(warp_threads) compress_kernel(PoolRef pool, CompressArgs args) {
    __shared__ Workspace workspace;
    // Most blocks of a second attempt have nothing to do.
    const ChunkState state = args.results[blockIdx.x].state;
    if (state != ChunkState::pending && state != ChunkState::no_memory) return;
    static_assert(sizeof(workspace.fse) % sizeof(std::uint32_t) == 0);
    const auto* const from = reinterpret_cast<const std::uint32_t*>(&fse_tables);
    auto* const to = reinterpret_cast<std::uint32_t*>(&workspace.fse);
    for (unsigned i = threadIdx.x; i < sizeof(workspace.fse) / sizeof(std::uint32_t); i += warp_threads)
        to[i] = from[i];
    __syncwarp();
    cuda_env env;
    cuda_zstd::detail::compress_chunk(env, pool, workspace, args, blockIdx.x);
}

__global__ void __launch_bounds__(gather_warps* warp_threads)
    gather_kernel(PoolRef pool, CompressArgs args, unsigned char* packed) {
    const std::uint32_t index = blockIdx.x * gather_warps + threadIdx.x / warp_threads;
    if (index >= args.chunk_count) return;
    cuda_env env;
    cuda_zstd::detail::gather_chunk(env, pool, args, packed, index);
}

void check(cudaError_t error, const char* call) {
    if (error != cudaSuccess) throw cuda_error(std::string(call) + " failed: " + cudaGetErrorString(error));
}

} // namespace

void compress_on_cuda(cudaStream_t stream, const DevicePool& pool, const CompressArgs& args) {
    // Shared memory is what limits the warps in flight.
    check(cudaFuncSetAttribute(compress_kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared),
          "cudaFuncSetAttribute");
    compress_kernel<<<args.chunk_count, warp_threads, 0, stream>>>(pool.ref<cuda_env>(), args);
    check_launch("compress_kernel");
}

void gather_on_cuda(cudaStream_t stream, const DevicePool& pool, const CompressArgs& args, const GatherArgs& gather) {
    std::size_t scratch_bytes = gather.scratch_bytes;
    check(cub::DeviceScan::ExclusiveSum(gather.scratch, scratch_bytes, args.frame_offsets, args.frame_offsets,
                                        static_cast<int>(args.chunk_count + 1), stream),
          "cub::DeviceScan::ExclusiveSum");
    if (args.chunk_count == 0) return;
    gather_kernel<<<(args.chunk_count + gather_warps - 1) / gather_warps, gather_warps * warp_threads, 0, stream>>>(
        pool.ref<cuda_env>(), args, gather.packed);
    check_launch("gather_kernel");
}

std::size_t gather_scratch_bytes_on_cuda(std::uint32_t chunk_count) {
    std::size_t bytes = 0;
    std::uint64_t* const words = nullptr;
    check(cub::DeviceScan::ExclusiveSum(nullptr, bytes, words, words, static_cast<int>(chunk_count + 1)),
          "cub::DeviceScan::ExclusiveSum");
    return bytes;
}

} // namespace cuda_zstd::compression::detail
