// SPDX-License-Identifier: MIT
// Blocks of a device pool that the host has freed, until a kernel frees them.
//
// Invariant: a block is freed behind the work that was in its stream when the host freed it, since its batch is
// launched there later. A stream is told by its id; a batch holds the blocks of one stream, at most most_batch_blocks
// of them. Every member may be called from any thread.
#pragma once

#include "cuda_zstd/host/backend.hpp"
#include "kernels/free_batch.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace cuda_zstd::detail {

class PendingFrees {
public:
    PendingFrees(Backend& backend, const HeapArena& heap, const BadFreeLog& log)
        : backend_(backend), heap_(heap), log_(log) {}
    /// Drops what was not launched. The caller has waited for what was.
    ~PendingFrees();
    PendingFrees(const PendingFrees&) = delete;
    PendingFrees& operator=(const PendingFrees&) = delete;

    /// Adds a block; launches the stream's batch before it when that is full. Throws `usage_error` on a stream that is
    /// being captured, `cuda_error` when a launch fails: then nothing has changed.
    void add(void* block, cudaStream_t stream);
    /// Launches what is pending for the stream. Throws as `add`.
    void launch(cudaStream_t stream);
    /// Launches what is pending for every stream, but for those that are being captured. Throws `cuda_error`.
    void launch_all();
    /// The caller waits until every batch that was launched has run.
    void synchronize();

private:
    struct OfStream {
        cudaStream_t stream = nullptr;
        std::uint64_t id = 0;
        FreeBatch batch;
        BackendEvent launched{}; ///< behind the last batch
    };

    OfStream& of(cudaStream_t stream);
    void launch(OfStream& pending);
    void refuse_capture(cudaStream_t stream, const char* call) const;

    Backend& backend_;
    const HeapArena heap_;
    const BadFreeLog log_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<OfStream>> streams_; ///< few: those that the host frees on
};

} // namespace cuda_zstd::detail
