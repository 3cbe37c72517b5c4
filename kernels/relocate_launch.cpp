// SPDX-License-Identifier: MIT
// Relocation: the choice of the backend, and the host backend's version.
#include "kernels/relocate_launch.hpp"

#include "cuda_zstd/env/solo_env.hpp"
#include "kernels/relocate.hpp"

namespace cuda_zstd {

void launch_chunk_survey(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap, Atom<std::uint32_t>* live) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) return detail::chunk_survey_on_cuda(stream, heap, live);
    backend.run_blocks(stream, 1, [heap, live](unsigned, unsigned processor) {
        solo_env env(processor);
        survey_chunks(env, Heap<solo_env>::over(heap.heap.base, heap.heap.layout), heap.heap.layout.page_count,
                      heap.chunk_pages, live, 0, 1);
    });
}

void launch_relocation(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap, const HandleMemory& table,
                       const Atom<std::uint32_t>* chosen, Atom<std::uint32_t>* held_pages) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) return detail::relocation_on_cuda(stream, heap, table, chosen, held_pages);
    backend.run_blocks(stream, 1, [=](unsigned, unsigned processor) {
        solo_env env(processor);
        const BasicHandleRef<solo_env> handles = table.over<solo_env>(heap.heap);
        const Evacuation<solo_env> evacuation(handles.heap().supply(), heap.heap.layout.page_count, heap.chunk_pages,
                                              {chosen, held_pages});
        evacuation.empty_stations(env, 0, 1);
        evacuation.hold_slabs(env, 0, 1);
        evacuation.hold_pages(env, 0, 1);
        detail::move_blocks(env, handles, evacuation, 0, 1);
        evacuation.release_pages(env, 0, 1);
        evacuation.release_slabs(env, 0, 1);
    });
}

} // namespace cuda_zstd
