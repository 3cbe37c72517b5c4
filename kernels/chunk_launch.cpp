// SPDX-License-Identifier: MIT
// Heaps that grow and shrink: the choice of the backend, and the host backend's version.
#include "kernels/chunk_launch.hpp"

#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/chunks.hpp"
#include "kernels/pulse.hpp"

namespace cuda_zstd {

static_assert(ClaimExtent::near_as_it_drains == HeapChunks<solo_env>::near_as_it_drains);

void launch_chunk_setup(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) return detail::chunk_setup_on_cuda(stream, heap);
    backend.run_blocks(stream, 1, [heap](unsigned, unsigned) {
        solo_env env;
        HeapChunks<solo_env>::format(env, heap.heap.base, heap.heap.layout, 0, 1);
    });
}

void launch_chunk_open(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap, const ChunkBatch& batch,
                       const ClaimExtent& extent) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) return detail::chunk_open_on_cuda(stream, heap, batch, extent);
    backend.run_blocks(stream, 1, [heap, batch, extent](unsigned, unsigned processor) {
        solo_env env(processor);
        const Heap<solo_env> view = Heap<solo_env>::over(heap.heap.base, heap.heap.layout);
        const HeapChunks<solo_env> chunks(view, heap.chunk_pages);
        if (batch.count != 0) chunks.count_opened(env, batch.count);
        for (std::uint32_t at = 0; at < batch.count; ++at)
            chunks.clear_entries(env, batch.chunks[at], 0, 1);
        for (std::uint32_t at = 0; at < batch.count; ++at)
            chunks.set_free(env, batch.chunks[at], 0, 1);
        chunks.set_extent(env, extent.pages, extent.near_pages);
    });
}

void launch_chunk_take(Backend& backend, cudaStream_t stream, const ChunkedHeap& heap, std::uint32_t count,
                       const std::uint32_t* order, std::uint32_t most, Atom<std::uint32_t>* states) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda)
        return detail::chunk_take_on_cuda(stream, heap, count, order, most, states);
    backend.run_blocks(stream, 1, [=](unsigned, unsigned processor) {
        solo_env env(processor);
        const Heap<solo_env> view = Heap<solo_env>::over(heap.heap.base, heap.heap.layout);
        const HeapChunks<solo_env> chunks(view, heap.chunk_pages);
        chunks.keep_peak(env);
        std::uint32_t left = most;
        for (std::uint32_t at = 0; at < count; ++at) {
            ChunkState state = chunks.looks_free(env, order[at]) ? ChunkState::free : ChunkState::in_use;
            if (state == ChunkState::free && left != 0) {
                state = chunks.take_away(env, order[at]) ? ChunkState::away : ChunkState::in_use;
                left -= state == ChunkState::away ? 1 : 0;
            }
            env.store_for_host(states[at], static_cast<std::uint32_t>(state));
        }
        env.store_for_host(states[count], chunks.free_pages(env));
    });
}

void launch_pulse(Backend& backend, cudaStream_t stream, const HeapArena& heap, HeapPulse* pulse,
                  std::uint64_t sequence) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) return detail::pulse_on_cuda(stream, heap, pulse, sequence);
    backend.run_blocks(stream, 1, [=](unsigned, unsigned processor) {
        solo_env env(processor);
        detail::publish_pulse(env, Heap<solo_env>::over(heap.base, heap.layout), pulse, sequence);
    });
}

} // namespace cuda_zstd
