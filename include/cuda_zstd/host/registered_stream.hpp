// SPDX-License-Identifier: MIT
// A stream that a pool knows to be alive.
//
// Invariant: from its construction to its destruction the pool may use the stream at any time. What a call on a bare
// handle has to ask the driver each time, the registration promises: the stream's id does not change, and it is not
// being captured unless that was announced. So a call that finds its block at hand makes no driver call, and memory
// that waits for the stream can be asked for when somebody wants it, not whenever it is freed.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd_memory_pool.h"

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>

namespace cuda_zstd {

/// Names a stream to a pool for as long as it lives; both must outlive it. A library built without NDEBUG verifies each
/// promise in each call.
class CUDA_ZSTD_API RegisteredStream {
public:
    /// Throws `usage_error` for cudaStreamPerThread, which is another stream in each thread, and for a stream that is
    /// being captured.
    RegisteredStream(MemoryPoolManager& pool, cudaStream_t stream);
    /// Before the stream is destroyed. Records what the stream's free blocks still wait for.
    ~RegisteredStream();
    RegisteredStream(const RegisteredStream&) = delete;
    RegisteredStream& operator=(const RegisteredStream&) = delete;

    cudaStream_t handle() const noexcept { return handle_; }
    /// The backend's, which no other stream of the process ever has.
    std::uint64_t id() const noexcept { return id_; }
    MemoryPoolManager& pool() const noexcept { return pool_; }

    /// To be called before a capture of the stream begins, and after it has ended. In between what is
    /// allocated is the graph's, as it is with a bare handle, and no pool waits for the whole device. Each may be
    /// called again.
    void announce_capture() noexcept;
    void end_capture() noexcept;
    bool is_capturing() const noexcept { return capturing_.load(std::memory_order_relaxed); }

private:
    MemoryPoolManager& pool_;
    cudaStream_t handle_;
    std::uint64_t id_;
    std::atomic<bool> capturing_{false};
};

} // namespace cuda_zstd
