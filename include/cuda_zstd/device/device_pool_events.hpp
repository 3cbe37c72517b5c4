// SPDX-License-Identifier: MIT
// Who allocates what in a device pool: the events that kernels write, taken by the host.
//
// Invariant: opt-in by the handle that a kernel gets. `ref` gives one that writes an event of each call into a ring of
// this object; a pool's own `ref` gives one that does not, and pays nothing. Kernels with such a handle must be done
// before this ends. Events that find their part of the ring full are dropped and counted: nobody waits for the host.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/device/device_event.hpp"
#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/device/traced_heap.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace cuda_zstd {

/// What one kernel has done with blocks of one size class, as far as its events have been taken.
struct DeviceUse {
    std::uint32_t kernel = 0;
    /// page_run_class: blocks above 32 KiB. Of failures: the class that was asked for.
    std::uint8_t size_class = 0;
    std::uint64_t allocations = 0;
    std::uint64_t requested_bytes = 0;
    std::uint64_t failures = 0;
    /// Frees that this kernel made, of whosever blocks.
    std::uint64_t frees = 0;
    std::uint64_t bad_frees = 0;
    /// Blocks that this kernel allocated and nobody has freed.
    std::uint64_t live_blocks = 0;
    std::uint64_t live_bytes = 0; ///< as requested
};

/// Every member may be called from any thread.
class CUDA_ZSTD_API DevicePoolEvents {
public:
    /// Takes a ring of `places` events (64 B each, rounded up to a power of two for each of up to 16 groups of
    /// processors) from the manager, ready in `stream` order. Waits for the stream, to compare clocks. Throws
    /// `out_of_memory`, and `configuration_error` for fewer than 1,024 or more than 2^26 places.
    explicit DevicePoolEvents(MemoryPoolManager& manager, cudaStream_t stream = 0, std::uint32_t places = 1u << 16);
    ~DevicePoolEvents();
    DevicePoolEvents(const DevicePoolEvents&) = delete;
    DevicePoolEvents& operator=(const DevicePoolEvents&) = delete;

    /// The handle for a kernel whose calls are to be seen, under a number of the caller's. In CUDA code `Env` is
    /// cuda_env, and TracedDevicePoolRef takes it. Use it in work ordered behind the construction's stream.
    template <class Env>
    TracedPoolRef<Env> ref(const DevicePool& pool, std::uint32_t kernel) const {
        return TracedPoolRef<Env>(TracedHeap<Env>(PoolHeap<Env>::over(pool.arena(), pool.layout()), area(), kernel));
    }
    /// A name for a number, for people.
    void name_kernel(std::uint32_t kernel, const std::string& name);

    /// Takes the events that were written so far, in `stream` order, and waits for them: in order of time, which is the
    /// host's steady clock now. Other streams' kernels may go on writing. Adds them to `use`, and to the counters
    /// "bytes live" and "failed requests" of an NVTX tool, at the times at which they happened. Cost: a kernel that
    /// reads what was written, eight empty ones to compare clocks.
    std::vector<DeviceEvent> drain(cudaStream_t stream);
    /// By kernel and size class, as far as drained.
    std::vector<DeviceUse> use() const;
    /// Events that were dropped since the construction, as far as drained. Where there are some, live blocks are not
    /// exact.
    std::uint64_t dropped() const;
    /// How far a time may be wrong: half of the shortest way to the device and back, when clocks were last compared.
    std::uint64_t clock_uncertainty_ns() const;
    /// A table of use(): who allocates what, and whose blocks still live.
    std::string to_text() const;
    void print(std::FILE* to) const;

    /// The ring itself.
    const EventRingArea& area() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace cuda_zstd
