// SPDX-License-Identifier: MIT
// Frees by the host: the choice of the backend, and the host backend's version.
#include "kernels/free_batch.hpp"

#include "cuda_zstd/env/solo_env.hpp"

namespace cuda_zstd {

void launch_free_batch(Backend& backend, cudaStream_t stream, const HeapArena& heap, const FreeBatch& batch,
                       const BadFreeLog& log) {
    if (batch.count == 0) return;
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::free_batch_on_cuda(stream, heap, batch, log);
    } else {
        detail::free_batch_on_host(backend, stream, heap, batch, log);
    }
}

void detail::free_batch_on_host(Backend& backend, cudaStream_t stream, const HeapArena& heap, const FreeBatch& batch,
                                const BadFreeLog& log) {
    backend.run_blocks(stream, 1, [heap, batch, log](unsigned, unsigned processor) {
        solo_env env(processor);
        const PoolHeap<solo_env> view = PoolHeap<solo_env>::over(heap.base, heap.layout);
        for (std::uint32_t at = 0; at < batch.count; ++at)
            detail::free_logged(env, view, batch.blocks[at], log);
    });
}

} // namespace cuda_zstd
