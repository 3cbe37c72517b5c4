// SPDX-License-Identifier: MIT
// Set-up of a heap, and reclaim, on the host backend.
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/format.hpp"
#include "kernels/heap_launch.hpp"

namespace cuda_zstd::detail {

void setup_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap) {
    backend.run_blocks(stream, 1, [heap](unsigned, unsigned) {
        solo_env env;
        format_heap(env, heap.base, heap.layout, 0, 1);
    });
}

void reclaim_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap) {
    backend.run_blocks(stream, 1, [heap](unsigned, unsigned processor) {
        solo_env env(processor);
        Heap<solo_env>::over(heap.base, heap.layout).supply().reclaim(env);
    });
}

} // namespace cuda_zstd::detail
