// SPDX-License-Identifier: MIT
// The soak on a GPU.
#include "cuda_zstd/env/cuda_env.cuh"
#include "kernels/cuda_check.hpp"
#include "tests/soak/soak_main.hpp"

namespace {

using namespace cuda_zstd;

template <class Body>
__global__ void __launch_bounds__(256) body_kernel(BasicPoolRef<cuda_env> pool, unsigned threads, Body body) {
    cuda_env env;
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < threads) body(env, pool, thread); // whole warps
}

struct Launch {
    using Env = cuda_env;
    static bool available() { return Backend::cuda_available(); }
    static Backend& backend() { return Backend::get(BackendKind::cuda); }
    template <class Body>
    static void run(cudaStream_t stream, const BasicPoolRef<Env>& pool, unsigned threads, const Body& body,
                    unsigned width = 256) {
        if (width > threads) width = threads;
        body_kernel<<<(threads + width - 1) / width, width, 0, stream>>>(pool, threads, body);
        check_launch("body_kernel");
    }
};

} // namespace

int main(int argc, char** argv) {
    soak::Settings settings;
    settings.pairs = 10000000000;
    settings.cycles = 20;
    settings.heap_bytes = std::size_t{2} << 30;
    settings.cycle_heap_bytes = std::size_t{64} << 20;
    settings.log2_threads = 18;
    settings.boxes = 1u << 17;
    return soak::soak_main<Launch>(argc, argv, settings);
}
