// SPDX-License-Identifier: MIT
// Launchers for the ring of events. For either backend.
// Invariant: each returns at once; its work is done in `stream` order.
#pragma once

#include "cuda_zstd/device/event_ring.hpp"
#include "cuda_zstd/host/backend.hpp"

#include <cstdint>

namespace cuda_zstd {

/// Empties the ring. `results` holds an entry a shard, `events` twice the places of each, both in pinned memory. Calls
/// on one ring must be ordered.
void launch_event_drain(Backend& backend, cudaStream_t stream, const EventRingArea& ring, DeviceEvent* events,
                        EventDrain* results);
/// Writes the clock of events to pinned memory.
void launch_event_clock(Backend& backend, cudaStream_t stream, std::uint64_t* now_ns);

namespace detail {
void event_drain_on_cuda(cudaStream_t stream, const EventRingArea& ring, DeviceEvent* events, EventDrain* results);
void event_clock_on_cuda(cudaStream_t stream, std::uint64_t* now_ns);
} // namespace detail

} // namespace cuda_zstd
