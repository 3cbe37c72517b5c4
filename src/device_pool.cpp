// SPDX-License-Identifier: MIT
#include "cuda_zstd/device/device_pool.hpp"

#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"
#include "cuda_zstd_memory_pool.h"
#include "kernels/audit_launch.hpp"
#include "kernels/free_batch.hpp"
#include "kernels/heap_launch.hpp"
#include "pending_frees.hpp"
#include "pool_compactor.hpp"
#include "pool_resizer.hpp"
#include "pool_state.hpp"

#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace cuda_zstd {
namespace {

constexpr std::size_t min_arena_bytes = std::size_t{1} << 20;
constexpr std::size_t arena_alignment_bytes = std::size_t{2} << 20;
/// What a report counts free chunks of a pool of fixed size in: that of the manager's arenas, less for small pools.
std::size_t chunk_bytes_for(std::size_t arena_bytes) {
    return arena_bytes < (std::size_t{1} << 30) ? std::size_t{2} << 20 : std::size_t{32} << 20;
}

} // namespace

/// What the pool needs between calls.
/// Hidden: as a part of an exported class it would be exported too.
struct __attribute__((visibility("hidden"))) DevicePool::State final : detail::DeviceArenaOwner {
    MemoryPoolManager& manager;
    Backend& backend;
    cudaStream_t stream; ///< the arena's own
    HeapArena heap{};
    std::size_t arena_bytes = 0;
    void* work = nullptr;              ///< of compactions; behind it the counter of bad frees
    BadFreeEntry* bad_frees = nullptr; ///< pinned
    std::optional<detail::PendingFrees> frees;
    std::unique_ptr<detail::PoolResizer> resizer; ///< of a pool that grows
    std::unique_ptr<detail::PoolCompactor> compactor;

    State(MemoryPoolManager& owner, std::size_t bytes, cudaStream_t on)
        : manager(owner), backend(owner.backend()), stream(on), arena_bytes(bytes) {
        try {
            heap.base = manager.allocate_device_arena(arena_bytes, stream);
            heap.layout = HeapLayout::for_arena(arena_bytes, backend.processors());
            make_ready();
            launch_heap_setup(backend, stream, heap);
            be_ready();
        } catch (...) {
            release();
            throw;
        }
    }
    State(MemoryPoolManager& owner, const DevicePoolSize& size, cudaStream_t on)
        : manager(owner), backend(owner.backend()), stream(on), arena_bytes(size.max_bytes) {
        try {
            resizer = std::make_unique<detail::PoolResizer>(backend, manager.state_->arenas(), manager.options(), size);
            heap = resizer->heap();
            make_ready();
            resizer->set_up(stream);
            be_ready();
        } catch (...) {
            release();
            throw;
        }
    }
    /// What a heap needs beside its arena.
    void make_ready() {
        const std::size_t counter_offset =
            round_up<std::size_t>(detail::PoolCompactor::work_bytes(backend, heap.layout), 128);
        work = manager.allocate(counter_offset + sizeof(std::uint32_t), stream);
        bad_frees = static_cast<BadFreeEntry*>(backend.allocate_pinned(most_bad_frees * sizeof(BadFreeEntry)));
        std::uninitialized_fill_n(bad_frees, most_bad_frees, BadFreeEntry{});
        auto* const counter = static_cast<std::byte*>(work) + counter_offset;
        frees.emplace(backend, heap, BadFreeLog{reinterpret_cast<Atom<std::uint32_t>*>(counter), bad_frees});
        backend.fill_async(counter, 0, sizeof(std::uint32_t), stream);
        const std::size_t chunk_bytes = resizer != nullptr ? resizer->chunk_bytes() : chunk_bytes_for(arena_bytes);
        compactor = std::make_unique<detail::PoolCompactor>(backend, heap, chunk_bytes, work, stream);
    }
    void be_ready() {
        compactor->order_behind(stream);
        manager.state_->device_arenas.add(pages(), heap.layout.payload_bytes(), *this);
    }
    detail::PoolResizer& growing(const char* call) const {
        if (resizer == nullptr)
            throw usage_error(std::string(call) +
                              " of a device pool whose size is fixed: make it with a DevicePoolSize");
        return *resizer;
    }
    ~State() { release(); }

    std::byte* pages() const { return static_cast<std::byte*>(heap.base) + heap.layout.pages_offset; }

    void free_block(void* block, cudaStream_t on) override { frees->add(block, on); }
    void launch_frees() override { frees->launch_all(); }

    void release() noexcept {
        try {
            if (heap.base != nullptr) manager.state_->device_arenas.remove(pages());
            if (frees) frees->synchronize();
            if (compactor != nullptr) compactor->close();
            if (resizer != nullptr) backend.synchronize(stream);
        } catch (...) {
            (void)resizer.release();
            (void)compactor.release();
            return; // work that cannot be waited for may still use all of it: the manager goes on to list the arena
        }
        try {
            if (work != nullptr) manager.deallocate(work, stream);
            if (resizer != nullptr)
                resizer.reset();
            else if (heap.base != nullptr)
                manager.release_device_arena(heap.base, stream);
        } catch (...) {
            // As above: a destructor has nobody else to tell.
        }
        compactor.reset();
        frees.reset();
        if (bad_frees != nullptr) backend.free_pinned(bad_frees);
    }
};

DevicePool::DevicePool(MemoryPoolManager& manager, std::size_t bytes, cudaStream_t stream) {
    if (bytes < min_arena_bytes)
        throw configuration_error("a device pool of " + std::to_string(bytes) + " bytes is too small: at least " +
                                  std::to_string(min_arena_bytes) + " bytes (1 MiB) are needed");
    const std::size_t rounded_bytes = round_up(bytes, arena_alignment_bytes);
    // What cannot be rounded up is too much: the manager says so with the caller's own figure.
    state_ = std::make_unique<State>(manager, rounded_bytes < bytes ? bytes : rounded_bytes, stream);
}

DevicePool::DevicePool(MemoryPoolManager& manager, const DevicePoolSize& size, cudaStream_t stream) {
    if (size.initial_bytes > size.max_bytes)
        throw configuration_error("a device pool with a maximum of " + std::to_string(size.max_bytes) +
                                  " bytes, below its initial size of " + std::to_string(size.initial_bytes));
    state_ = std::make_unique<State>(manager, size, stream);
}

DevicePool::~DevicePool() = default;
DevicePool::DevicePool(DevicePool&&) noexcept = default;
DevicePool& DevicePool::operator=(DevicePool&&) noexcept = default;

void DevicePool::deallocate(void* block, cudaStream_t stream) {
    if (block == nullptr) return;
    const auto offset = reinterpret_cast<std::uintptr_t>(block) - reinterpret_cast<std::uintptr_t>(state_->pages());
    if (offset >= layout().payload_bytes()) {
        char text[80];
        std::snprintf(text, sizeof text, "cannot free: %p is not in the heap of this device pool", block);
        throw usage_error(text);
    }
    state_->frees->add(block, stream);
}

void DevicePool::flush(cudaStream_t stream) {
    state_->frees->launch(stream);
    if (state_->resizer != nullptr) state_->resizer->forget(stream);
}

GrowthReport DevicePool::grow(std::size_t bytes, cudaStream_t stream) {
    return state_->growing("grow").grow(bytes, stream);
}

TrimReport DevicePool::trim(cudaStream_t stream, std::size_t keep_bytes) {
    detail::PoolResizer& resizer = state_->growing("trim");
    state_->frees->launch_all();
    state_->frees->synchronize();
    launch_quarantine_release(state_->backend, stream, state_->heap);
    state_->compactor->compact(stream, {});
    return resizer.trim(keep_bytes, stream);
}

void DevicePool::resize_between_launches(cudaStream_t stream) {
    if (state_->resizer != nullptr) state_->resizer->between_launches(stream);
}

void DevicePool::set_resize_policy(const ResizePolicy& policy) {
    state_->growing("set_resize_policy").set_policy(policy);
}

std::size_t DevicePool::mapped_bytes() const {
    return state_->resizer != nullptr ? state_->resizer->mapped_bytes() : state_->arena_bytes;
}

std::size_t DevicePool::chunk_bytes() const noexcept {
    return state_->resizer != nullptr ? state_->resizer->chunk_bytes() : 0;
}

std::vector<BadFree> DevicePool::bad_frees() const {
    std::vector<BadFree> found;
    for (std::uint32_t at = 0; at < most_bad_frees; ++at) {
        BadFreeEntry& entry = state_->bad_frees[at];
        const std::uint64_t status = std::atomic_ref(entry.status.value).load(std::memory_order_acquire);
        if (status == static_cast<std::uint64_t>(Status::ok)) continue; // its kernel is about to write it
        const std::uint64_t block = std::atomic_ref(entry.block.value).load(std::memory_order_relaxed);
        found.push_back({reinterpret_cast<void*>(block), static_cast<Status>(status)});
    }
    return found;
}

void DevicePool::compact(cudaStream_t stream, const Compaction& how) {
    static const TraceName name("compact", TraceCategory::compact);
    const TraceRange range(name, state_->arena_bytes);
    state_->frees->launch_all();
    launch_quarantine_release(state_->backend, stream, state_->heap);
    state_->compactor->compact(stream, how);
}

void DevicePool::set_compaction_policy(const CompactionPolicy& policy) { state_->compactor->set_policy(policy); }

CompactionReason DevicePool::between_launches(cudaStream_t stream) {
    if (state_->backend.is_capturing(stream)) return CompactionReason::none;
    state_->frees->launch_all();
    resize_between_launches(stream);
    return state_->compactor->between_launches(stream);
}

HeapReport DevicePool::report() const { return state_->compactor->report(); }

std::vector<std::size_t> DevicePool::free_chunk_offsets() const { return state_->compactor->free_chunk_offsets(); }

HeapReport DevicePool::statistics(cudaStream_t stream) {
    state_->frees->launch_all();
    return state_->compactor->survey(stream);
}

AuditReport DevicePool::audit(cudaStream_t stream) {
    Backend& backend = state_->backend;
    MemoryPoolManager& manager = state_->manager;
    // Before the lock, since a callback for want of memory may use this pool.
    void* const work = manager.allocate(audit_work_bytes(state_->heap.layout), stream);
    AuditReport* report = nullptr;
    const auto release = [&] {
        if (report != nullptr) backend.free_pinned(report);
        try {
            manager.deallocate(work, stream);
        } catch (const cuda_error&) {
            manager.deallocate(work, stream); // nothing else would ever free it
        }
    };
    AuditReport copy;
    try {
        const std::unique_lock lock = state_->compactor->hold(stream);
        report = new (backend.allocate_pinned(sizeof(AuditReport))) AuditReport{};
        launch_audit(backend, stream, state_->heap, work, report);
        backend.synchronize(stream);
        copy = *report;
    } catch (...) {
        try {
            backend.synchronize(stream); // what was submitted before it failed writes the report
            release();
        } catch (...) {
            // Then nobody can say when it ends, and its memory stays.
        }
        throw;
    }
    release();
    return copy;
}

std::size_t DevicePool::arena_bytes() const noexcept { return state_->arena_bytes; }
const HeapLayout& DevicePool::layout() const noexcept { return state_->heap.layout; }
void* DevicePool::arena() const noexcept { return state_->heap.base; }
MemoryPoolManager& DevicePool::manager() const noexcept { return state_->manager; }

} // namespace cuda_zstd
