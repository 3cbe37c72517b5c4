// SPDX-License-Identifier: MIT
// Growth and trim of a device pool.
//
// Invariant: a chunk is mapped before the launch that opens it is submitted, and unmapped after the launch that took it
// away is done. These launches are in one order, whatever stream they are submitted to (`resized_`). A launch that
// opens chunks also waits for what the pool's other streams were given before, so no kernel that was submitted before
// the mapping uses it. What throws leaves the heap as it was, with nothing mapped that is not in the heap.
#pragma once

#include "cuda_zstd/device/pool_size.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/options.hpp"
#include "kernels/chunk_launch.hpp"
#include "pool_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace cuda_zstd::detail {

/// Every member may be called from any thread.
class PoolResizer {
public:
    /// Throws `configuration_error` and `out_of_memory`.
    PoolResizer(Backend& backend, ArenaPool& arenas, const PoolOptions& options, const DevicePoolSize& size);
    /// Waits for a trim that is under way, then gives all memory back. Work that uses it must be done.
    ~PoolResizer();
    PoolResizer(const PoolResizer&) = delete;
    PoolResizer& operator=(const PoolResizer&) = delete;

    HeapArena heap() const { return {memory_.base(), memory_.layout().heap}; }
    /// Makes the heap, of its initial size. Throws `out_of_memory` where that is not to be had.
    void set_up(cudaStream_t stream);

    GrowthReport grow(std::size_t bytes, cudaStream_t stream);
    /// The caller has launched what makes pages free.
    TrimReport trim(std::size_t keep_bytes, cudaStream_t stream);
    /// Reads the last pulse and acts on it; submits the next. Waits for nothing.
    void between_launches(cudaStream_t stream);
    void set_policy(const ResizePolicy& policy);
    /// The stream's work is no longer waited for.
    void forget(cudaStream_t stream);
    std::size_t mapped_bytes() const;
    std::size_t chunk_bytes() const noexcept { return memory_.layout().chunk_bytes; }

private:
    struct KnownStream {
        std::uint64_t id;
        cudaStream_t stream;
        BackendEvent reached;
    };
    ChunkedHeap chunked() const { return {heap(), memory_.layout().chunk_pages()}; }
    void release() noexcept;
    void refuse_capture(cudaStream_t stream, const char* call) const;
    void know(cudaStream_t stream);

    GrowthReport grow_locked(std::size_t bytes, cudaStream_t stream);
    void publish(const std::vector<std::uint32_t>& chunks, cudaStream_t stream);
    void open(const std::vector<std::uint32_t>& chunks, std::size_t& opened, cudaStream_t stream);
    void end_order(cudaStream_t stream);
    void give_up(const std::vector<std::uint32_t>& chunks, std::size_t first) noexcept;
    std::size_t wanted_bytes(const HeapPulse& pulse) const;

    void begin_take(std::size_t most, cudaStream_t stream);
    std::uint32_t near_pages_after(std::uint32_t free_pages) const;
    TrimReport finish_take(cudaStream_t stream);
    bool take_is_done() { return is_taken_recorded_ && backend_.is_complete(taken_); }
    void wait_for_take();

    std::optional<HeapPulse> read_pulse() const;
    void react(const HeapPulse& pulse, cudaStream_t stream);

    Backend& backend_;
    const PoolOptions options_;
    const std::size_t initial_bytes_;
    mutable std::mutex mutex_;
    PoolMemory memory_;
    std::size_t clean_metadata_bytes_ = 0; ///< zeroed when they were mapped
    ResizePolicy policy_;
    BackendEvent resized_{}; ///< behind the last launch that opened or took chunks
    std::vector<KnownStream> streams_;

    // A take: from its launch until its chunks are unmapped.
    std::uint32_t taking_ = 0;              ///< candidates; 0: none is under way
    std::uint32_t keeping_ = 0;             ///< chunks that the take is to leave
    std::uint32_t near_pages_ = 0;          ///< what claims take first (ClaimExtent)
    std::uint32_t* order_ = nullptr;        ///< pinned: the candidates
    Atom<std::uint32_t>* states_ = nullptr; ///< pinned: what became of them
    BackendEvent taken_{};
    bool is_taken_recorded_ = false;
    std::vector<std::uint32_t> stranded_;  ///< mapped, but the heap could not be told: the next growth opens them
    std::uint64_t tick_ = 0;               ///< takes so far
    std::vector<std::uint64_t> last_used_; ///< the tick at which a chunk was last seen in use

    HeapPulse* pulse_ = nullptr; ///< pinned
    std::uint64_t pulses_ = 0;
    std::uint64_t ignored_pulses_ = 0; ///< pulses up to this one were taken before the last change of size
    std::uint64_t failures_seen_ = 0;
    unsigned roomy_calls_ = 0;
    bool has_reclaimed_ = false; ///< since the last pulse that was not low
    bool is_starved_ = false;    ///< the last growth found no memory: only a failure is a reason to ask again
};

} // namespace cuda_zstd::detail
