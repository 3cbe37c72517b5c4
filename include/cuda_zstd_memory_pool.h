// SPDX-License-Identifier: MIT
// The memory pool of the guide: MemoryPoolManager and what its signatures need.
//
// Invariant: every byte that a live block covers belongs to no other live block, and a block that was freed on one
// stream reaches another only behind the work that was in the first at the time of the free. All metadata is on the
// host, out of the blocks' reach. Every member may be called from any thread.
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iosfwd>
#include <memory>
#include <vector>

namespace cuda_zstd {

class Backend;
class DevicePool;
class RegisteredStream;
struct PoolOptions;
struct PoolStatistics;
struct StreamShare;

/// A block as the pool describes it to its callers: 32 bytes.
struct PoolBlock {
    /// Address, at least 256 B aligned.
    void* ptr = nullptr;
    /// Bytes: as requested for a live block, as available for a free one.
    std::size_t size = 0;
    bool is_free = true;
    /// Of the last change of the block's state: nanoseconds of a steady clock, to its last tick some milliseconds
    /// before. The least recently used block is given back first.
    std::uint64_t timestamp = 0;
};
static_assert(sizeof(PoolBlock) == 32, "the guide's figure for a block");

/// GPU memory (or, on the host backend, ordinary memory) that is reserved in large arenas and handed out in stream
/// order. Errors are those of cuda_zstd/host/error.hpp; a call that throws has changed nothing. After fork() the pool
/// is the parent's: in the child every call throws `usage_error`, and the destructor leaves everything as it is.
class CUDA_ZSTD_API MemoryPoolManager {
public:
    /// The process's pool, configured by the environment (CUDA_ZSTD_POOL_*). Made by the first call, never
    /// destroyed, so it may be used in destructors of static objects. Throws `configuration_error` for an
    /// environment that cannot be read, and where headers and library are of different versions.
    /// There is one for each device: this is that of the calling thread's current device.
    static MemoryPoolManager& get_instance() { return instance_for(CUDA_ZSTD_POOL_VERSION, current_device); }
    /// That of a device by its index. Throws `configuration_error` where there is no such device.
    static MemoryPoolManager& get_instance(int device) { return instance_for(CUDA_ZSTD_POOL_VERSION, device); }

    /// A pool of its own. The environment is not looked at. Throws `configuration_error` for contradictory options.
    explicit MemoryPoolManager(const PoolOptions& options);
    /// Waits for pending work, reports blocks that still live (PoolOptions::diagnostics) and returns all memory.
    ~MemoryPoolManager();
    MemoryPoolManager(const MemoryPoolManager&) = delete;
    MemoryPoolManager& operator=(const MemoryPoolManager&) = delete;

    /// `size` bytes, 256 B aligned, that work of `stream` submitted from now on may use. O(1) for a small block
    /// that is cached, O(log n) for others. Throws `usage_error` for 0 bytes, `out_of_memory` (a std::bad_alloc) when
    /// the limit or the memory is exhausted after pending frees were waited for. On a stream that is being captured the
    /// memory belongs to the graph: it is the same in every launch, lives until the graph and all that was instantiated
    /// from it are gone, and needs no free. It comes from memory that nothing waits for; for want of that nothing is
    /// waited for either. PoolStatistics::graph_bytes counts it.
    void* allocate(std::size_t size, cudaStream_t stream = 0);
    /// The same with an alignment in bytes: a power of two up to 2 MiB (smaller than 256 counts as 256).
    void* allocate(std::size_t size, std::size_t alignment, cudaStream_t stream);
    /// The same; null where `allocate` throws `out_of_memory`.
    void* try_allocate(std::size_t size, cudaStream_t stream = 0);

    /// The same for a stream that is registered with this pool: a block at hand costs no driver call.
    void* allocate(std::size_t size, const RegisteredStream& stream);
    void* allocate(std::size_t size, std::size_t alignment, const RegisteredStream& stream);
    void* try_allocate(std::size_t size, const RegisteredStream& stream);

    /// Gives a block back. Work already in `stream` may still use it; when `stream` is not the block's own,
    /// `stream` then orders its reuse. Null has no effect. Throws `usage_error` with the block's history for a
    /// double free, a foreign pointer and a pointer inside a block. A block that a kernel took from a device pool of
    /// this manager goes to that pool (DevicePool::deallocate). On a stream that is being captured, only a block of
    /// that capture may be freed: the rest of the capture, on the same stream, uses it again. Any other is refused.
    void deallocate(void* ptr, cudaStream_t stream = 0);
    void deallocate(void* ptr, const RegisteredStream& stream);

    /// Clears all pools: waits for pending work, invalidates every live block (how many is reported, see
    /// PoolStatistics::reset_invalidated_blocks), keeps the memory mapped. Throws `usage_error` while a device pool
    /// lives in an arena, or a graph has memory of the pool.
    void reset();
    /// Waits for pending frees and returns all memory that no live block needs. O(blocks).
    void trim();
    /// As trim(), but keeps `keep_bytes` of capacity; what was used least recently goes first.
    void trim(std::size_t keep_bytes);
    /// Maps memory until at least `bytes` are free. Throws `out_of_memory`.
    void reserve(std::size_t bytes);

    /// Requested bytes of all live blocks, device pools among them.
    std::size_t get_allocated_size() const;
    /// Mapped bytes.
    std::size_t get_pool_size() const;

    /// Prints what `statistics()` holds. MB is 2^20 bytes.
    void print_stats(std::FILE* to = stdout) const;
    void print_stats(std::ostream& to) const;
    /// Prints one line for each live block, oldest first: the leaks, at the end of a program.
    void print_allocated_blocks(std::FILE* to = stdout) const;
    void print_allocated_blocks(std::ostream& to) const;

    // What follows needs cuda_zstd_memory_pool_enhanced.h for its types.

    PoolStatistics statistics() const;
    /// What each stream has done and has, by the stream's id. Other calls wait. O(live blocks + streams * log streams).
    std::vector<StreamShare> stream_statistics() const;
    /// Every block, live and free, in address order. O(n log n).
    std::vector<PoolBlock> snapshot() const;
    /// Writes arenas, blocks, figures and, where they are tracked, call sites as JSON (docs/snapshot.schema.json).
    /// Other calls wait for it. About 0.5 us and 50 bytes a block. Throws `std::system_error` where `to` takes no more.
    void write_snapshot(std::FILE* to) const;
    /// Bytes usable behind a live block's address (at least what was requested). Throws `usage_error` as deallocate.
    std::size_t usable_size(const void* ptr) const;
    const PoolOptions& options() const noexcept;
    /// Whose memory it has. The streams 0, legacy and per-thread of a call are those of this device, whichever is
    /// current; a stream of another device is refused with `usage_error`, and so is another pool's block.
    int device() const noexcept;
    Backend& backend() const noexcept;

    /// Memory for a device pool: `bytes` (rounded up to 2 MiB), 2 MiB aligned, usable in `stream` order. Listed by
    /// print_allocated_blocks(); while one lives, reset() throws. Throws as allocate().
    void* allocate_device_arena(std::size_t bytes, cudaStream_t stream);
    /// Gives it back in stream order. Throws `usage_error` when `memory` is no device arena. Null has no effect.
    void release_device_arena(void* memory, cudaStream_t stream);

private:
    static constexpr int current_device = -1;
    static MemoryPoolManager& instance_for(unsigned header_version, int device);

    friend class DevicePool;
    friend class RegisteredStream;
    friend struct PoolInspector;
    struct State;
    std::unique_ptr<State> state_;
};

/// CUDA_ZSTD_POOL_VERSION of the library that is linked.
CUDA_ZSTD_API unsigned library_version() noexcept;

} // namespace cuda_zstd
