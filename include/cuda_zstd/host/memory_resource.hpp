// SPDX-License-Identifier: MIT
// A pool as a `cuda::mr` resource, and a `cuda::mr` resource as the memory of a pool. Needs CCCL (libcu++), which comes
// with the CUDA toolkit; nothing else of the library does.
//
// Invariant: the spellings are those of CCCL 3.1 and later, where `allocate` takes the stream first; those of 3.0,
// where `allocate` is what is `allocate_sync` now, are there only when it is compiled with 3.0.
#pragma once

#if !defined(LIBCUDACXX_ENABLE_EXPERIMENTAL_MEMORY_RESOURCE)
// CCCL 3.0 asks for it.
#define LIBCUDACXX_ENABLE_EXPERIMENTAL_MEMORY_RESOURCE
#endif

#include "cuda_zstd/host/arena_source.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd_memory_pool.h"

#include <cuda/memory_resource>
#include <cuda/std/version>
#include <cuda/stream_ref>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace cuda_zstd {

/// A pool as a resource. Copies refer to the same pool, and are equal. Errors are the pool's: `out_of_memory` (a
/// `std::bad_alloc`), `usage_error`, `cuda_error`. Alignment up to 2 MiB.
class PoolResource {
public:
    static constexpr std::size_t default_alignment_bytes = 256;

    /// Keeps the pool alive.
    explicit PoolResource(std::shared_ptr<MemoryPoolManager> pool) : pool_(std::move(pool)) {}
    /// The pool must outlive the resource, its copies and their blocks.
    explicit PoolResource(MemoryPoolManager& pool) : pool_(std::shared_ptr<void>(), &pool) {}

    MemoryPoolManager& pool() const noexcept { return *pool_; }

    /// In stream order: as MemoryPoolManager::allocate and deallocate.
    void* allocate(cuda::stream_ref stream, std::size_t bytes, std::size_t alignment = default_alignment_bytes) {
        return pool_->allocate(std::max<std::size_t>(bytes, 1), alignment, stream.get());
    }
    void deallocate(cuda::stream_ref stream, void* block, std::size_t bytes,
                    std::size_t alignment = default_alignment_bytes) {
        (void)bytes;
        (void)alignment;
        pool_->deallocate(block, stream.get());
    }

    /// Usable on every stream when it returns: waits for stream 0, on which the block is allocated.
    void* allocate_sync(std::size_t bytes, std::size_t alignment = default_alignment_bytes) {
        void* block = pool_->allocate(std::max<std::size_t>(bytes, 1), alignment, cudaStream_t{});
        pool_->backend().synchronize(cudaStream_t{});
        return block;
    }
    /// No work may use the block any more.
    void deallocate_sync(void* block, std::size_t bytes, std::size_t alignment = default_alignment_bytes) {
        (void)bytes;
        (void)alignment;
        pool_->deallocate(block, cudaStream_t{});
    }

#if CCCL_VERSION < 3001000
    void* allocate(std::size_t bytes, std::size_t alignment = default_alignment_bytes) {
        return allocate_sync(bytes, alignment);
    }
    void deallocate(void* block, std::size_t bytes, std::size_t alignment = default_alignment_bytes) {
        deallocate_sync(block, bytes, alignment);
    }
    void* allocate_async(std::size_t bytes, std::size_t alignment, cuda::stream_ref stream) {
        return allocate(stream, bytes, alignment);
    }
    void* allocate_async(std::size_t bytes, cuda::stream_ref stream) { return allocate(stream, bytes); }
    void deallocate_async(void* block, std::size_t bytes, std::size_t alignment, cuda::stream_ref stream) {
        deallocate(stream, block, bytes, alignment);
    }
    void deallocate_async(void* block, std::size_t bytes, cuda::stream_ref stream) { deallocate(stream, block, bytes); }
#endif

    friend bool operator==(const PoolResource& a, const PoolResource& b) noexcept { return a.pool_ == b.pool_; }
    friend bool operator!=(const PoolResource& a, const PoolResource& b) noexcept { return !(a == b); }
    /// Of a pool whose arenas are the device's; the host backend's are not.
    friend void get_property(const PoolResource&, cuda::mr::device_accessible) noexcept {}

private:
    std::shared_ptr<MemoryPoolManager> pool_;
};

/// Arenas from a resource: each growth is one of its blocks. `PoolOptions::custom_source` takes it.
template <class Resource>
class ResourceSource final : public ArenaSource {
public:
    /// `total_bytes`: how much the resource can give at most.
    ResourceSource(Resource resource, std::size_t total_bytes)
        : resource_(std::move(resource)), total_bytes_(total_bytes) {}

    const char* name() const noexcept override { return "cuda::mr resource"; }
    bool grows() const noexcept override { return false; }
    std::size_t granularity_bytes() const noexcept override { return unit_bytes; }
    std::size_t total_bytes() const override { return total_bytes_; }

    AddressRange reserve(std::size_t bytes) override {
        const std::lock_guard lock(mutex_);
        Piece piece;
        // Resources promise little about alignment above 256 bytes, so the 2 MiB are found inside of what is more.
        piece.bytes = bytes + unit_bytes - resource_alignment;
        if (piece.bytes < bytes) throw out_of_memory("no resource has " + std::to_string(bytes) + " bytes");
        try {
            piece.memory = take(piece.bytes);
        } catch (const std::exception& error) {
            throw out_of_memory(std::string("the cuda::mr resource has no ") + std::to_string(piece.bytes) +
                                " bytes: " + error.what());
        }
        const auto start = reinterpret_cast<std::uintptr_t>(piece.memory);
        auto* base = reinterpret_cast<std::byte*>((start + unit_bytes - 1) / unit_bytes * unit_bytes);
        try {
            pieces_.emplace(base, piece);
        } catch (...) {
            give(piece);
            throw;
        }
        return {base, bytes};
    }
    void map(const AddressRange&, std::size_t, std::size_t) override {}
    void unmap(const AddressRange&, std::size_t, std::size_t) noexcept override {}
    void release(const AddressRange& range) noexcept override {
        const std::lock_guard lock(mutex_);
        const auto found = pieces_.find(range.base);
        give(found->second);
        pieces_.erase(found);
    }

private:
    static constexpr std::size_t unit_bytes = std::size_t{2} << 20;
    static constexpr std::size_t resource_alignment = 256;
    struct Piece {
        void* memory = nullptr;
        std::size_t bytes = 0;
    };

    void* take(std::size_t bytes) {
#if CCCL_VERSION < 3001000
        return resource_.allocate(bytes, resource_alignment);
#else
        return resource_.allocate_sync(bytes, resource_alignment);
#endif
    }
    void give(const Piece& piece) noexcept {
#if CCCL_VERSION < 3001000
        resource_.deallocate(piece.memory, piece.bytes, resource_alignment);
#else
        resource_.deallocate_sync(piece.memory, piece.bytes, resource_alignment);
#endif
    }

    Resource resource_;
    std::size_t total_bytes_;
    std::mutex mutex_;
    std::map<std::byte*, Piece> pieces_;
};

} // namespace cuda_zstd
