// SPDX-License-Identifier: MIT
// A block that frees itself.
// Invariant: data() is null exactly when size_bytes() is 0; one block has at most one owner.
#pragma once

#include "cuda_zstd_memory_pool.h"

#include <cstddef>
#include <cstdio>
#include <exception>
#include <utility>

namespace cuda_zstd {

/// Owns one block of a pool, which must outlive it. Move-only. Freed on the stream of `set_stream`, at first the
/// one that it was allocated on.
class PooledBuffer {
public:
    PooledBuffer() noexcept = default;
    /// Throws as MemoryPoolManager::allocate; 0 bytes make an empty buffer.
    PooledBuffer(MemoryPoolManager& pool, std::size_t size_bytes, cudaStream_t stream = 0)
        : pool_(&pool), data_(size_bytes == 0 ? nullptr : pool.allocate(size_bytes, stream)), size_bytes_(size_bytes),
          stream_(stream) {}
    PooledBuffer(PooledBuffer&& other) noexcept
        : pool_(other.pool_), data_(std::exchange(other.data_, nullptr)),
          size_bytes_(std::exchange(other.size_bytes_, 0)), stream_(other.stream_) {}
    PooledBuffer& operator=(PooledBuffer&& other) noexcept {
        if (this != &other) {
            free_quietly();
            pool_ = other.pool_;
            data_ = std::exchange(other.data_, nullptr);
            size_bytes_ = std::exchange(other.size_bytes_, 0);
            stream_ = other.stream_;
        }
        return *this;
    }
    PooledBuffer(const PooledBuffer&) = delete;
    PooledBuffer& operator=(const PooledBuffer&) = delete;
    ~PooledBuffer() { free_quietly(); }

    void* data() const noexcept { return data_; }
    template <class T>
    T* as() const noexcept {
        return static_cast<T*>(data_);
    }
    std::size_t size_bytes() const noexcept { return size_bytes_; }
    explicit operator bool() const noexcept { return data_ != nullptr; }
    cudaStream_t stream() const noexcept { return stream_; }
    /// The stream whose work orders the block's reuse after the free.
    void set_stream(cudaStream_t stream) noexcept { stream_ = stream; }

    /// Frees the block now. Throws as MemoryPoolManager::deallocate; the buffer then still owns the block.
    void free() {
        if (data_ != nullptr) pool_->deallocate(data_, stream_);
        data_ = nullptr;
        size_bytes_ = 0;
    }
    /// Gives up ownership: the caller frees.
    void* release() noexcept {
        size_bytes_ = 0;
        return std::exchange(data_, nullptr);
    }

private:
    /// A destructor cannot throw, and a block that a reset has invalidated is no reason to end the process.
    void free_quietly() noexcept {
        try {
            free();
        } catch (const std::exception& error) {
            std::fprintf(stderr, "cuda_zstd: a buffer was not freed: %s\n", error.what());
        }
    }

    MemoryPoolManager* pool_ = nullptr;
    void* data_ = nullptr;
    std::size_t size_bytes_ = 0;
    cudaStream_t stream_ = nullptr;
};

} // namespace cuda_zstd
