// SPDX-License-Identifier: MIT
#include "cuda_zstd/device/device_pool_events.hpp"

#include "clock_map.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"
#include "cuda_zstd_memory_pool.h"
#include "device_event_ledger.hpp"
#include "kernels/event_launch.hpp"
#include "trace_timeline.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdio>
#include <mutex>
#include <new>
#include <unordered_map>

namespace cuda_zstd {
namespace {

constexpr std::uint32_t least_places = 1024;
constexpr std::uint32_t most_places = 1u << 26;
constexpr std::uint32_t most_shards = 16;
constexpr unsigned readings = 8;

std::string next_name() {
    static std::atomic<unsigned> made{0};
    return "cuda_zstd device events " + std::to_string(made.fetch_add(1, std::memory_order_relaxed));
}

EventRingArea shape_of(std::uint32_t places, unsigned processors) {
    if (places < least_places || places > most_places)
        throw configuration_error("a ring of " + std::to_string(places) + " device events: expected " +
                                  std::to_string(least_places) + " to " + std::to_string(most_places));
    EventRingArea area;
    area.shards = std::min(processors, most_shards);
    area.places = std::bit_ceil((places + area.shards - 1) / area.shards);
    return area;
}

} // namespace

/// Hidden: as a part of an exported class it would be exported too.
struct __attribute__((visibility("hidden"))) DevicePoolEvents::State {
    MemoryPoolManager& manager;
    Backend& backend;
    const cudaStream_t stream; ///< the ring's own
    EventRingArea area;
    DeviceEvent* events = nullptr;  ///< pinned; of each shard twice its places
    EventDrain* results = nullptr;  ///< pinned
    std::uint64_t* clock = nullptr; ///< pinned
    BackendEvent drained{};         ///< behind the last drain
    mutable std::mutex mutex;
    // The rest is guarded by the mutex.
    detail::ClockMap clocks;
    detail::DeviceEventLedger ledger;
    std::unordered_map<std::uint32_t, std::string> names;
    std::uint64_t dropped = 0;
    const std::string name = next_name();
    const detail::NvtxTimeline live_bytes{name + " bytes live", "bytes"};
    const detail::NvtxTimeline failures{name + " failed requests", "1"};

    State(MemoryPoolManager& owner, std::uint32_t places, cudaStream_t on)
        : manager(owner), backend(owner.backend()), stream(on), area(shape_of(places, backend.processors())) {
        try {
            area.base = manager.allocate(area.bytes(), stream);
            events = static_cast<DeviceEvent*>(
                backend.allocate_pinned(std::size_t{2} * area.places * area.shards * sizeof(DeviceEvent)));
            results = static_cast<EventDrain*>(backend.allocate_pinned(area.shards * sizeof(EventDrain)));
            clock = new (backend.allocate_pinned(sizeof(std::uint64_t))) std::uint64_t{0};
            drained = backend.create_event();
            backend.fill_async(area.base, 0, area.bytes(), stream);
            backend.record(drained, stream);
            compare_clocks(stream);
        } catch (...) {
            release();
            throw;
        }
    }
    ~State() { release(); }

    void release() noexcept {
        try {
            if (drained.handle != nullptr) backend.synchronize(drained);
            if (area.base != nullptr) manager.deallocate(area.base, stream);
        } catch (...) {
            // A destructor has nobody to tell; the manager goes on to list the ring.
        }
        if (drained.handle != nullptr) backend.destroy_event(drained);
        if (events != nullptr) backend.free_pinned(events);
        if (results != nullptr) backend.free_pinned(results);
        if (clock != nullptr) backend.free_pinned(clock);
    }

    void compare_clocks(cudaStream_t on) {
        backend.synchronize(on);
        detail::ClockMap::Reading best;
        for (unsigned reading = 0; reading < readings; ++reading) {
            const std::uint64_t before_ns = event_clock_ns();
            launch_event_clock(backend, on, clock);
            backend.synchronize(on);
            const std::uint64_t after_ns = event_clock_ns();
            if (after_ns - before_ns < best.way_ns()) best = {*clock, before_ns, after_ns};
        }
        clocks.compare(best);
    }

    std::vector<DeviceEvent> take(cudaStream_t on) {
        backend.wait(on, drained);
        launch_event_drain(backend, on, area, events, results);
        backend.record(drained, on);
        compare_clocks(on); // waits for it
        std::vector<DeviceEvent> taken;
        dropped = 0;
        for (std::uint32_t shard = 0; shard < area.shards; ++shard) {
            const DeviceEvent* const first = events + std::size_t{2} * area.places * shard;
            taken.insert(taken.end(), first, first + results[shard].events);
            dropped += results[shard].dropped;
        }
        for (DeviceEvent& event : taken)
            event.time_ns = clocks.host_ns(event.time_ns);
        return taken;
    }
};

DevicePoolEvents::DevicePoolEvents(MemoryPoolManager& manager, cudaStream_t stream, std::uint32_t places)
    : state_(std::make_unique<State>(manager, places, stream)) {}
DevicePoolEvents::~DevicePoolEvents() = default;

void DevicePoolEvents::name_kernel(std::uint32_t kernel, const std::string& name) {
    const std::lock_guard lock(state_->mutex);
    state_->names[kernel] = name;
}

std::vector<DeviceEvent> DevicePoolEvents::drain(cudaStream_t stream) {
    static const TraceName name("drain device events", TraceCategory::wave);
    const TraceRange range(name);
    const std::lock_guard lock(state_->mutex);
    std::vector<DeviceEvent> events = state_->take(stream);
    std::vector<std::int64_t> times, bytes, failed;
    const bool wanted = state_->live_bytes.wanted();
    state_->ledger.add(events, [&](std::uint64_t time_ns, std::uint64_t live_bytes, std::uint64_t failures) {
        if (!wanted) return;
        times.push_back(static_cast<std::int64_t>(time_ns));
        bytes.push_back(static_cast<std::int64_t>(live_bytes));
        failed.push_back(static_cast<std::int64_t>(failures));
    });
    state_->live_bytes.submit(bytes, times);
    state_->failures.submit(failed, times);
    return events;
}

std::vector<DeviceUse> DevicePoolEvents::use() const {
    const std::lock_guard lock(state_->mutex);
    return state_->ledger.use();
}

std::uint64_t DevicePoolEvents::dropped() const {
    const std::lock_guard lock(state_->mutex);
    return state_->dropped;
}

std::uint64_t DevicePoolEvents::clock_uncertainty_ns() const {
    const std::lock_guard lock(state_->mutex);
    return state_->clocks.uncertainty_ns();
}

const EventRingArea& DevicePoolEvents::area() const noexcept { return state_->area; }

std::string DevicePoolEvents::to_text() const {
    const std::lock_guard lock(state_->mutex);
    std::string text = "Device pool, by kernel and size class:\n"
                       "  kernel                    class  allocations      failed       frees   bad frees"
                       "        live  live bytes\n";
    char line[192];
    for (const DeviceUse& use : state_->ledger.use()) {
        const auto named = state_->names.find(use.kernel);
        const std::string kernel = named != state_->names.end() ? named->second : std::to_string(use.kernel);
        char size_class[16] = "pages";
        if (use.size_class != page_run_class)
            std::snprintf(size_class, sizeof size_class, "%u B", slot_bytes_of(use.size_class));
        std::snprintf(line, sizeof line, "  %-20s %10s %12llu %11llu %11llu %11llu %11llu %11llu\n", kernel.c_str(),
                      size_class, static_cast<unsigned long long>(use.allocations),
                      static_cast<unsigned long long>(use.failures), static_cast<unsigned long long>(use.frees),
                      static_cast<unsigned long long>(use.bad_frees), static_cast<unsigned long long>(use.live_blocks),
                      static_cast<unsigned long long>(use.live_bytes));
        text += line;
    }
    if (state_->dropped != 0)
        text += "  " + std::to_string(state_->dropped) + " events were dropped: what lives is not exact\n";
    return text;
}

void DevicePoolEvents::print(std::FILE* to) const { std::fputs(to_text().c_str(), to); }

} // namespace cuda_zstd
