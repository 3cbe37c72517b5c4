// SPDX-License-Identifier: MIT
// A device pool's heap that writes an event of every call: TracedPoolRef has all of BasicPoolRef's members.
//
// Invariant: an allocation's event comes after it, a free's has the time before it; so in order of time a block is
// freed before it is somebody else's. What a kernel does without this wrapper pays nothing for it, not a load.
#pragma once

#include "cuda_zstd/core/size_class.hpp"
#include "cuda_zstd/device/event_ring.hpp"
#include "cuda_zstd/device/pool_heap.hpp"
#include "cuda_zstd/device/pool_ref.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

template <class Env>
class TracedHeap {
public:
    TracedHeap() = default;
    /// `kernel` is the number that the events carry: whose they are.
    CUDA_ZSTD_HD TracedHeap(const PoolHeap<Env>& heap, const EventRingArea& ring, std::uint32_t kernel)
        : heap_(heap), ring_(ring), kernel_(kernel) {}

    CUDA_ZSTD_HD void* allocate(Env& env, LaneMask lanes, std::size_t bytes, std::uint32_t alignment, Status& status,
                                [[maybe_unused]] const CallPlace& place = {}) const {
        void* block = nullptr;
        if constexpr (Hardening::any)
            block = heap_.allocate(env, lanes, bytes, alignment, status, place);
        else
            block = heap_.allocate(env, lanes, bytes, alignment, status);
        const std::size_t usable = block != nullptr ? heap_.usable_size(env, block) : bytes;
        write(env, block != nullptr ? DeviceEventKind::allocation : DeviceEventKind::failure, event_clock_ns(), block,
              bytes, usable);
        return block;
    }
    CUDA_ZSTD_HD Status deallocate(Env& env, LaneMask lanes, void* block,
                                   [[maybe_unused]] const CallPlace& place = {}) const {
        const std::size_t usable = block != nullptr ? heap_.usable_size(env, block) : 0;
        const std::uint64_t before_ns = event_clock_ns();
        Status status = Status::ok;
        if constexpr (Hardening::any)
            status = heap_.deallocate(env, lanes, block, place);
        else
            status = heap_.deallocate(env, lanes, block);
        if (block != nullptr)
            write(env, status == Status::ok ? DeviceEventKind::free : DeviceEventKind::bad_free, before_ns, block,
                  usable, usable);
        env.sync(lanes);
        return status;
    }
    CUDA_ZSTD_HD std::size_t usable_size(Env& env, const void* block) const { return heap_.usable_size(env, block); }
    CUDA_ZSTD_HD bool owns(const void* address) const { return heap_.owns(address); }

private:
    CUDA_ZSTD_HD void write(Env& env, DeviceEventKind kind, std::uint64_t time_ns, const void* block, std::size_t bytes,
                            std::size_t usable) const {
        DeviceEvent event;
        event.time_ns = time_ns;
        event.block = reinterpret_cast<std::uint64_t>(block);
        event.bytes = bytes;
        event.kernel = kernel_;
        event.size_class = usable == 0 || usable > max_slot_bytes
                               ? page_run_class
                               : static_cast<std::uint8_t>(size_class_of(static_cast<std::uint32_t>(usable)));
        event.kind = kind;
        ring_.write(env, event);
    }

    PoolHeap<Env> heap_;
    EventRing<Env> ring_;
    std::uint32_t kernel_ = 0;
};

template <class Env>
using TracedPoolRef = BasicPoolRef<Env, TracedHeap<Env>>;

} // namespace cuda_zstd
