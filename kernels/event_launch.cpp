// SPDX-License-Identifier: MIT
// The ring of events: the choice of the backend, and the host backend's version.
#include "kernels/event_launch.hpp"

#include "cuda_zstd/env/solo_env.hpp"

namespace cuda_zstd {

void launch_event_drain(Backend& backend, cudaStream_t stream, const EventRingArea& ring, DeviceEvent* events,
                        EventDrain* results) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::event_drain_on_cuda(stream, ring, events, results);
        return;
    }
    backend.run_blocks(stream, ring.shards, [ring, events, results](unsigned shard, unsigned processor) {
        solo_env env(processor);
        const EventRing<solo_env> view(ring);
        DeviceEvent* const out = events + std::size_t{2} * ring.places * shard;
        view.begin(env, shard, 0);
        view.take(env, shard, out, 0, 1);
        view.advance(env, shard, 0);
        view.take(env, shard, out, 0, 1);
        view.end(env, shard, results + shard, 0);
    });
}

void launch_event_clock(Backend& backend, cudaStream_t stream, std::uint64_t* now_ns) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::event_clock_on_cuda(stream, now_ns);
        return;
    }
    backend.run_blocks(stream, 1, [now_ns](unsigned, unsigned) { *now_ns = event_clock_ns(); });
}

} // namespace cuda_zstd
