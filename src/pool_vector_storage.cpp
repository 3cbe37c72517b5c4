// SPDX-License-Identifier: MIT
#include "cuda_zstd/device/pool_vector_storage.hpp"

#include "cuda_zstd/device/pool_vector_ref.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd_memory_pool.h"

#include <algorithm>
#include <new>

namespace cuda_zstd::detail {
namespace {

/// The host sees the state only when nobody changes it; its cells have the layout of those that kernels change.
template <class T>
struct Cell {
    alignas(sizeof(T)) T value;
};
struct PlainCells {
    template <class T>
    using atom = Cell<T>;
};
using State = PoolVectorState<PlainCells>;
using Directory = PoolVectorDirectory;

} // namespace

struct PoolVectorStorage::Parts {
    MemoryPoolManager& manager;
    DevicePool& pool;
    const std::uint32_t first_count;
    const std::size_t element_bytes;
    cudaStream_t stream;
    State* state = nullptr;  ///< the backend's
    State* mirror = nullptr; ///< pinned

    Parts(MemoryPoolManager& owner, DevicePool& from, std::uint32_t count, std::size_t bytes, cudaStream_t on)
        : manager(owner), pool(from), first_count(count), element_bytes(bytes), stream(on) {
        try {
            state = static_cast<State*>(manager.allocate(sizeof(State), stream));
            mirror = static_cast<State*>(backend().allocate_pinned(sizeof(State)));
            empty_mirror();
            write(stream);
        } catch (...) {
            release();
            throw;
        }
    }
    ~Parts() {
        try {
            read(stream);
            free_segments(stream);
        } catch (...) {
            // A destructor has nobody to tell: the pool's report shows what was not freed.
        }
        release();
    }
    void release() noexcept {
        try {
            if (state != nullptr) manager.deallocate(state, stream);
            if (mirror != nullptr) backend().synchronize(stream);
        } catch (...) {
            return; // work that cannot be waited for may still use the pinned copy
        }
        if (mirror != nullptr) backend().free_pinned(mirror);
    }

    Backend& backend() const { return manager.backend(); }
    void empty_mirror() {
        new (mirror) State{};
        mirror->arena = pool.arena();
        mirror->layout = pool.layout();
    }
    void read(cudaStream_t on) {
        backend().copy_async(mirror, state, sizeof(State), on);
        backend().synchronize(on);
    }
    /// Waits, so that the mirror may be changed again.
    void write(cudaStream_t on) {
        backend().copy_async(state, mirror, sizeof(State), on);
        backend().synchronize(on);
    }
    // At rest a vector that is not closed has memory for every index that was given out.
    std::uint64_t size() const { return mirror->closed.value != 0 ? mirror->closed.value - 1 : mirror->reserved.value; }
    void* segment(unsigned k) const {
        const std::uint64_t place = mirror->segments[k].value;
        return place <= Directory::failed ? nullptr : reinterpret_cast<void*>(place);
    }
    void free_segments(cudaStream_t on) {
        for (unsigned k = 0; k < pool_vector_segments; ++k)
            pool.deallocate(segment(k), on);
    }
};

PoolVectorStorage::PoolVectorStorage(MemoryPoolManager& manager, DevicePool& pool, std::uint32_t first_count,
                                     std::size_t element_bytes, cudaStream_t stream)
    : parts_(std::make_unique<Parts>(manager, pool, first_count, element_bytes, stream)) {}
PoolVectorStorage::~PoolVectorStorage() = default;

void* PoolVectorStorage::state() const noexcept { return parts_->state; }
void PoolVectorStorage::read(cudaStream_t stream) { parts_->read(stream); }
std::uint64_t PoolVectorStorage::size() const noexcept { return parts_->size(); }
std::uint64_t PoolVectorStorage::refused() const noexcept {
    return parts_->mirror->refused_before.value + parts_->mirror->reserved.value - parts_->size();
}

void PoolVectorStorage::copy_elements(void* to, cudaStream_t stream) {
    const Directory directory{parts_->first_count};
    const std::uint64_t size = parts_->size();
    for (unsigned k = 0; directory.start_of(k) < size; ++k) {
        const std::uint64_t first = directory.start_of(k);
        const std::uint64_t count = std::min(size, directory.start_of(k + 1)) - first;
        parts_->backend().copy_async(static_cast<std::byte*>(to) + first * parts_->element_bytes, parts_->segment(k),
                                     count * parts_->element_bytes, stream);
    }
    parts_->backend().synchronize(stream);
}

void PoolVectorStorage::clear(cudaStream_t stream) {
    parts_->read(stream);
    parts_->free_segments(stream);
    parts_->empty_mirror();
    parts_->write(stream);
}

void PoolVectorStorage::reopen(cudaStream_t stream) {
    parts_->read(stream);
    State& mirror = *parts_->mirror;
    const std::uint64_t kept = parts_->size();
    mirror.refused_before.value += mirror.reserved.value - kept;
    mirror.reserved.value = kept;
    mirror.closed.value = 0;
    for (auto& place : mirror.segments)
        if (place.value == Directory::failed) place.value = Directory::none;
    parts_->write(stream);
}

} // namespace cuda_zstd::detail
