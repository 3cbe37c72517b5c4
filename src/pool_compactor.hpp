// SPDX-License-Identifier: MIT
// The host's side of a device pool's compactions and surveys: their work area, their order, and their reports.
//
// Invariant: launches share one work area, so each waits, on the device, for the one before; those that are captured
// into graphs cannot, and do nothing where they meet another (CompactionState). Every member may be called from any
// thread.
#pragma once

#include "cuda_zstd/device/compaction_policy.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/trace.hpp"
#include "kernels/compact_launch.hpp"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace cuda_zstd::detail {

class PoolCompactor {
public:
    /// Bytes of device memory that the compactions of a heap work in.
    static std::size_t work_bytes(Backend& backend, const HeapLayout& layout);

    /// `work` has work_bytes(), aligned to 128; it and the heap are set up in `stream` order behind the constructor.
    PoolCompactor(Backend& backend, const HeapArena& heap, std::size_t chunk_bytes, void* work, cudaStream_t stream);
    ~PoolCompactor();
    PoolCompactor(const PoolCompactor&) = delete;
    PoolCompactor& operator=(const PoolCompactor&) = delete;

    /// Later launches are behind what is in `stream` now.
    void order_behind(cudaStream_t stream);
    /// Makes `stream` wait for what was launched, and holds off other launches while the lock lives.
    std::unique_lock<std::mutex> hold(cudaStream_t stream);

    /// Throws `usage_error` for a budget of zero, for one in the quiet form, and after close().
    void compact(cudaStream_t stream, const Compaction& how);
    /// Surveys in `stream` order and waits.
    HeapReport survey(cudaStream_t stream);
    /// Does what the policy says; why it compacted.
    CompactionReason between_launches(cudaStream_t stream);
    /// Throws `configuration_error` for a policy that cannot be meant.
    void set_policy(const CompactionPolicy& policy);

    /// The last report that is whole. Waits for nothing, takes no lock.
    HeapReport report() const;
    /// Offsets in the arena of the chunks that the last survey found free.
    std::vector<std::size_t> free_chunk_offsets() const;

    /// No launch after this; waits for those that were.
    void close();

private:
    void launch(cudaStream_t stream, const Compaction* how);
    void submit_quiet(cudaStream_t stream);
    void end_order(cudaStream_t stream) noexcept;
    void refuse_when_closed() const;

    Backend& backend_;
    CompactionTask task_;
    std::size_t chunk_bytes_;
    std::mutex mutex_;
    bool closed_ = false;
    BackendEvent launched_{};      ///< behind the last launch
    BackendWork quiet_{};          ///< a quiet compaction, once there was one: a dozen launches for the price of one
    bool records_nothing_ = false; ///< the backend, or for want of memory
    CompactionPolicy policy_;
    CompactionClock clock_;
    const TraceCounters counters_;
};

} // namespace cuda_zstd::detail
