// SPDX-License-Identifier: MIT
#include "kernels/heap_launch.hpp"

namespace cuda_zstd {

void launch_heap_setup(Backend& backend, cudaStream_t stream, const HeapArena& heap) {
    // Zero is the empty state of everything but the map of free pages and its counters.
    backend.fill_async(heap.base, 0, heap.layout.metadata_bytes, stream);
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::setup_on_cuda(stream, heap);
    } else {
        detail::setup_on_host(backend, stream, heap);
    }
}

void launch_reclaim(Backend& backend, cudaStream_t stream, const HeapArena& heap) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::reclaim_on_cuda(stream, heap);
    } else {
        detail::reclaim_on_host(backend, stream, heap);
    }
}

} // namespace cuda_zstd
