// SPDX-License-Identifier: MIT
#include "cuda_zstd/device/pool_ref.hpp"
#include "cuda_zstd/env/cuda_env.cuh"
#include "cuda_zstd/host/backend.hpp"
#include "kernels/cuda_check.hpp"

#include <algorithm>
#include <memory>

namespace cuda_zstd::test {

template <class Body>
__global__ void body_kernel(BasicPoolRef<cuda_env> pool, unsigned threads, Body body) {
    cuda_env env;
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < threads) body(env, pool, thread);
}

struct Launch {
    using Env = cuda_env;
    static bool available() { return Backend::cuda_available(); }
    static Backend& backend() { return Backend::get(BackendKind::cuda); }
    template <class Body>
    static void run(cudaStream_t stream, const BasicPoolRef<Env>& pool, unsigned threads, const Body& body) {
        body_kernel<<<(threads + 255) / 256, 256, 0, stream>>>(pool, threads, body);
        check_launch("body_kernel");
    }
};

} // namespace cuda_zstd::test

#include "../suite/device_heap.inc"
