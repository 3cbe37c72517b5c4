// SPDX-License-Identifier: MIT
// The host-side owner of a heap that kernels allocate from.
//
// Invariant: the arena belongs to the pool from construction to destruction; the manager lists it, and its reset()
// throws while it lives. The pool's address may change by a move, its heap's never does: handles in kernels stay valid.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/device/audit_report.hpp"
#include "cuda_zstd/device/compaction_policy.hpp"
#include "cuda_zstd/device/pool_ref.hpp"
#include "cuda_zstd/device/pool_size.hpp"
#include "cuda_zstd/heap/compaction.hpp"
#include "cuda_zstd/heap/heap_report.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <vector>

namespace cuda_zstd {

class MemoryPoolManager;

/// A free by the host that the pool refused.
struct BadFree {
    void* block = nullptr;
    /// interior or double_free; foreign for what no block can begin at.
    Status status = Status::ok;
};

/// Every member may be called from any thread, but for the moves.
class CUDA_ZSTD_API DevicePool {
public:
    /// Reserves `bytes` (metadata, at most 1 % from 64 MiB up, among them) from the manager's arenas and sets the heap
    /// up in `stream` order. Throws `configuration_error` below 1 MiB and `out_of_memory`.
    DevicePool(MemoryPoolManager& manager, std::size_t bytes, cudaStream_t stream = 0);
    /// A pool that grows and shrinks: reserves addresses for the maximum and maps the initial size. Its memory comes
    /// from the manager's arena source and counts for the manager's limit. Throws `configuration_error` for sizes that
    /// contradict each other and for a source that cannot map piecewise, `out_of_memory`.
    DevicePool(MemoryPoolManager& manager, const DevicePoolSize& size, cudaStream_t stream = 0);
    /// Gives the arena back behind all work of the stream it was made on; blocks that still live are gone with it, and
    /// so are frees that were not launched. Waits for the surveys and the frees that were. Work of other streams on the
    /// pool must be done, or ordered before that stream.
    ~DevicePool();
    DevicePool(DevicePool&& other) noexcept;
    DevicePool& operator=(DevicePool&& other) noexcept;

    /// The handle for kernels; for DevicePoolRef in CUDA code, `Env` is cuda_env. Use it in work ordered behind the
    /// construction's stream.
    template <class Env>
    BasicPoolRef<Env> ref() const {
        return BasicPoolRef<Env>(PoolHeap<Env>::over(arena(), layout()));
    }

    /// Gives back a block that a kernel allocated, behind the work that is in `stream` now: kernels submitted to it
    /// before may still use the block, and whoever gets the bytes next, on any stream, is ordered behind them. The
    /// block may come from a kernel of any stream, if `stream` is behind that kernel. Null has no effect. Blocks are
    /// collected, up to 256 for each stream, and freed by one kernel: when there are more, and in `flush`, `compact`,
    /// `statistics` and MemoryPoolManager::trim; until then their memory is not available. So what is wrong with a
    /// pointer inside the heap is known only when that kernel has run: it has no effect, is counted in the report and
    /// listed by bad_frees. Throws `usage_error` for a pointer that is not in the heap and on a stream that is being
    /// captured, `cuda_error` when a launch fails; then nothing has changed. MemoryPoolManager::deallocate forwards
    /// here. Cost: no call of the driver but for the stream's id and state; one launch for 256 blocks.
    void deallocate(void* block, cudaStream_t stream);
    /// Launches the frees that are pending for `stream`, and forgets it: growth no longer waits for its work. To be
    /// called before a stream is destroyed that was passed to `deallocate`, `grow`, `trim` or `between_launches`.
    /// Throws as `deallocate`. Does not wait.
    void flush(cudaStream_t stream);
    /// Frees by the host that were refused, the first 64 since the construction, as far as their kernels have run.
    /// Waits for nothing.
    std::vector<BadFree> bad_frees() const;

    /// Makes empty slabs free pages, puts partly free ones in order so that the fullest are used first, and publishes a
    /// report, in `stream` order. By default kernels of other streams may allocate and free meanwhile; see Compaction
    /// for the faster form, and for a budget. Does not wait, and allocates nothing. Calls on several streams are safe:
    /// each runs behind the one before. A stream may be being captured into a graph: then each launch of the graph
    /// compacts, unless another compaction is under way just then, and must be done before the pool ends. Frees by the
    /// host that are pending are launched first, each on its stream. Throws `usage_error` for a budget of 0 and while
    /// the pool is being destroyed.
    void compact(cudaStream_t stream, const Compaction& how = {});
    /// To be called between launches of kernels that use the pool: launches pending frees, does what
    /// resize_between_launches does, and launches a compaction or a survey if the policy says so, in `stream` order.
    /// Says why it compacted. Does not wait: it goes by the last report. Does nothing on a stream that is being
    /// captured.
    CompactionReason between_launches(cudaStream_t stream);
    /// What between_launches goes by from now on. Throws `configuration_error` for shares outside 0 to 1 and budgets
    /// that `compact` would refuse.
    void set_compaction_policy(const CompactionPolicy& policy);

    /// The last published report; all zero before the first. Waits for nothing: no lock, no call of the driver. Beside
    /// a compaction it is the report before or the one after, always a whole one.
    HeapReport report() const;
    HeapReport last_report() const { return report(); }
    /// Where in the arena the physical chunks lie that the last report found free (HeapReport::free_chunks of
    /// chunk_bytes each), in bytes from arena(). Waits for nothing.
    std::vector<std::size_t> free_chunk_offsets() const;
    /// Publishes a report in `stream` order, waits for it and returns it. Frees by the host that are pending are
    /// launched first, each on its stream: those of `stream` are in the report.
    HeapReport statistics(cudaStream_t stream);

    /// Checks every invariant of the heap in `stream` order, waits, and returns the first that is broken; in a hardened
    /// build also the faults found in users' blocks so far. No kernel may allocate or free meanwhile. For debugging:
    /// one pass over the metadata by one thread block. Throws `out_of_memory` where there is no room for 4 B a page.
    AuditReport audit(cudaStream_t stream);

    /// Maps at least `bytes` more for blocks, never above the maximum; says how much, and what stopped it. The new
    /// pages are published in `stream` order, behind all that the streams known to the pool were given before: those
    /// that were passed to `grow`, `trim`, `between_launches` and the constructor. No block moves, no handle changes;
    /// work of `stream` that is submitted from now on can use the pages, work of other streams may. Throws
    /// `usage_error` for a pool of fixed size and on a stream that is being captured, `cuda_error`; then nothing has
    /// changed. Cost: the driver's calls for each chunk, a launch, and an event for each known stream.
    GrowthReport grow(std::size_t bytes, cudaStream_t stream);
    /// Unmaps free chunks, wherever they lie, least recently used first, until at most `keep_bytes` are mapped; 0:
    /// every one that is free. Launches pending frees, retires empty slabs, takes the chunks from the heap in `stream`
    /// order, waits for that, and unmaps. Kernels of other streams may allocate and free meanwhile. What is unmapped
    /// comes back by growth. Throws as `grow`. Where the driver refuses a chunk, it is the heap's again.
    TrimReport trim(cudaStream_t stream, std::size_t keep_bytes = 0);
    /// To be called between launches: grows by the manager's growth options when kernels ran short or less than a share
    /// of the pages is free, shrinks when much was free for long (ResizePolicy). Waits for nothing: it reads what the
    /// pool's state was at an earlier call, as far as the device has got, so a shortage is answered when the call after
    /// the one that follows it. Does nothing on a stream that is being captured, and for a pool of fixed size. Throws
    /// `cuda_error`. Cost: one launch of one thread.
    void resize_between_launches(cudaStream_t stream);
    /// Throws `configuration_error`; `usage_error` for a pool of fixed size.
    void set_resize_policy(const ResizePolicy& policy);
    /// Bytes that are mapped now, metadata among them; for a pool of fixed size, of its arena.
    std::size_t mapped_bytes() const;
    /// What is mapped and unmapped as one piece; 0 for a pool of fixed size.
    std::size_t chunk_bytes() const noexcept;

    /// Bytes of the arena, metadata among them; for a pool that grows, its maximum.
    std::size_t arena_bytes() const noexcept;
    const HeapLayout& layout() const noexcept;
    /// Start of the arena.
    void* arena() const noexcept;
    MemoryPoolManager& manager() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace cuda_zstd
