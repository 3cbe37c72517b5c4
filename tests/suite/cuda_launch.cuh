// SPDX-License-Identifier: MIT
// How the suites run their bodies on CUDA.
#pragma once

#include "cuda_zstd/device/cuda_block.cuh"
#include "cuda_zstd/device/pool_ref.hpp"
#include "cuda_zstd/env/cuda_env.cuh"
#include "cuda_zstd/host/backend.hpp"
#include "kernels/cuda_check.hpp"

#include <algorithm>
#include <memory>

namespace cuda_zstd::test {

struct Shared;

template <class Ref, class Body>
__global__ void body_kernel(Ref pool, unsigned threads, Body body) {
    cuda_env env;
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < threads) body(env, pool, thread);
}

template <class SharedMemory, class Body>
__global__ void block_body_kernel(BasicPoolRef<cuda_env> pool, Body body) {
    __shared__ SharedMemory shared;
    cuda_block block;
    if (block.thread() == 0) block.store(shared.errors, 0u);
    __syncthreads();
    body(block, pool, blockIdx.x, shared);
}

struct Launch {
    using Env = cuda_env;
    using Block = cuda_block;
    /// No multiple of a warp's lanes, so that the last warp of a block is not whole.
    static constexpr unsigned block_threads = 200;

    static bool available() { return Backend::cuda_available(); }
    static Backend& backend() { return Backend::get(BackendKind::cuda); }
    template <class Ref, class Body>
    static void run(cudaStream_t stream, const Ref& pool, unsigned threads, const Body& body) {
        if (threads == 0) return; // no launch is of no thread
        body_kernel<<<(threads + 255) / 256, 256, 0, stream>>>(pool, threads, body);
        check_launch("body_kernel");
    }
    template <class Body, class SharedMemory = Shared>
    static void run_blocks(cudaStream_t stream, const BasicPoolRef<Env>& pool, unsigned blocks, const Body& body) {
        block_body_kernel<SharedMemory><<<blocks, block_threads, 0, stream>>>(pool, body);
        check_launch("block_body_kernel");
    }
};

} // namespace cuda_zstd::test
