// SPDX-License-Identifier: MIT
// What tools that check memory are told: arenas as heaps, blocks as regions of them.
//
// Invariant: a block's region is registered while the block is the caller's and at no other time, so an access to an
// arena outside of regions is an error that such a tool reports. Where no tool asks for memory, nothing is kept. A tool
// that checks memory need not know domains: nothing here depends on the domain's handle.
#pragma once

#include "cuda_zstd/host/arena_source.hpp"
#include "cuda_zstd/host/backend.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

struct nvtxDomainRegistration_st;
struct nvtxMemHeap_v1;
struct nvtxResourceHandle;

namespace cuda_zstd::detail {

/// The domain's handle; null where no tool listens.
nvtxDomainRegistration_st* nvtx_domain() noexcept;
/// Whether compute-sanitizer runs this program and is to be told of arenas and blocks. It checks parts of what
/// cudaMalloc gave, so that is where arenas come from then, unless the caller says otherwise.
bool is_memory_checked() noexcept;
/// Gives a CUDA stream of our own a name for profilers: "cuda_zstd stream 12".
void name_own_stream(cudaStream_t stream, std::uint64_t id) noexcept;

/// A name in the domain for a stream that is somebody else's, from construction to destruction; whatever its owner
/// calls it stays.
class NvtxStreamName {
public:
    NvtxStreamName() = default;
    NvtxStreamName(BackendKind kind, cudaStream_t stream, std::uint64_t id, std::uint32_t pool) noexcept;
    NvtxStreamName(NvtxStreamName&& other) noexcept : resource_(std::exchange(other.resource_, nullptr)) {}
    NvtxStreamName& operator=(NvtxStreamName&& other) noexcept {
        std::swap(resource_, other.resource_);
        return *this;
    }
    ~NvtxStreamName();

private:
    nvtxResourceHandle* resource_ = nullptr;
};

/// The heaps of one pool. Members may be called from any thread.
class NvtxHeaps {
public:
    explicit NvtxHeaps(std::uint32_t pool) : pool_(pool) {}

    void add(const AddressRange& arena);
    void remove(const AddressRange& arena) noexcept;
    /// Whether a tool has taken a heap: then every block has to be registered.
    bool wanted() const noexcept { return wanted_.load(std::memory_order_relaxed); }
    /// Registers a block under a name that says its number, pool and bytes, in at most 49 characters (more than that
    /// compute-sanitizer does not take).
    void add_block(const void* ptr, std::size_t bytes, const char* what) noexcept;
    /// Bytes of the block's region; 0 where it had none.
    std::size_t remove_block(const void* ptr) noexcept;
    /// All blocks are gone.
    void reset() noexcept;

private:
    struct Heap {
        AddressRange arena;
        nvtxMemHeap_v1* handle = nullptr;
    };
    const std::uint32_t pool_;
    std::atomic<bool> wanted_{false};
    std::atomic<std::uint64_t> arenas_{0};
    std::atomic<std::uint64_t> blocks_{0};
    mutable std::shared_mutex mutex_;
    /// Guarded by mutex_.
    std::vector<Heap> heaps_;
    std::mutex regions_mutex_;
    /// Bytes by address. Guarded by regions_mutex_.
    std::unordered_map<const void*, std::size_t> regions_;
};

/// A source that tells `heaps` of every arena, marks what is given back, and passes all calls on. `reserved` is called
/// behind each arena.
std::shared_ptr<ArenaSource> observed_source(std::shared_ptr<ArenaSource> source, NvtxHeaps& heaps,
                                             std::function<void()> reserved, std::uint32_t pool);

} // namespace cuda_zstd::detail
