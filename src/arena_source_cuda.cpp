// SPDX-License-Identifier: MIT
// CUDA's sources: virtual memory through the driver; and the runtime's own blocks: cudaMalloc, managed and pinned
// memory.
#include "cuda_zstd/host/arena_source.hpp"

#include "backends.hpp"
#include "cuda_zstd/host/arena.hpp"
#include "cuda_zstd/host/error.hpp"
#include "driver_api.hpp"
#include "machine.hpp"
#include "trace_nvtx.hpp"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <string>

namespace cuda_zstd {
namespace {

using detail::check_cuda;

constexpr std::size_t range_alignment_bytes = std::size_t{2} << 20;

/// The driver's calls need the device's primary context on the calling thread; the runtime puts it there.
void bind_context(int device) {
    thread_local int bound = -1;
    if (bound == device) return;
    int current = -1;
    check_cuda(cudaGetDevice(&current), "cudaGetDevice");
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
    if (current != device)
        check_cuda(cudaSetDevice(current), "cudaSetDevice");
    else
        bound = device;
}

std::size_t device_memory_bytes() {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    return total_bytes;
}

class CudaVirtualSource final : public ArenaSource {
public:
    explicit CudaVirtualSource(Backend& backend)
        : driver_(detail::driver_api()), backend_(backend), device_(backend.device()) {
        bind_context(device_);
        if (!detail::has_virtual_memory(driver_, device_))
            throw cuda_error("device " + std::to_string(device_) +
                             " has no virtual memory management; use cudaMalloc arenas");
        property_.type = CU_MEM_ALLOCATION_TYPE_PINNED;
        property_.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
        property_.location.id = device_;
        detail::check_driver(
            driver_,
            driver_.mem_get_allocation_granularity(&granularity_bytes_, &property_, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
            "cuMemGetAllocationGranularity");
    }

    const char* name() const noexcept override { return "CUDA virtual memory"; }
    bool grows() const noexcept override { return true; }
    std::size_t granularity_bytes() const noexcept override { return granularity_bytes_; }
    std::size_t total_bytes() const override {
        const DeviceScope device(backend_);
        return device_memory_bytes();
    }

    AddressRange reserve(std::size_t bytes) override {
        bind_context(device_);
        const detail::RelaxedCapture relaxed;
        CUdeviceptr base = 0;
        const CUresult result = driver_.mem_address_reserve(&base, bytes, range_alignment_bytes, 0, 0);
        if (result == CUDA_ERROR_OUT_OF_MEMORY)
            throw out_of_memory("no device address range of " + std::to_string(bytes) + " bytes");
        detail::check_driver(driver_, result, "cuMemAddressReserve");
        return {reinterpret_cast<std::byte*>(base), bytes};
    }

    void map(const AddressRange& range, std::size_t offset, std::size_t bytes) override {
        bind_context(device_);
        const detail::RelaxedCapture relaxed;
        const CUdeviceptr address = reinterpret_cast<CUdeviceptr>(range.base) + offset;
        CUmemGenericAllocationHandle handle = 0;
        const CUresult created = driver_.mem_create(&handle, bytes, &property_, 0);
        if (created == CUDA_ERROR_OUT_OF_MEMORY)
            throw out_of_memory("no device memory for " + std::to_string(bytes) + " bytes");
        detail::check_driver(driver_, created, "cuMemCreate");
        const CUresult mapped = driver_.mem_map(address, bytes, 0, handle, 0);
        // The mapping keeps the memory; without one, this returns it.
        (void)driver_.mem_release(handle);
        detail::check_driver(driver_, mapped, "cuMemMap");
        CUmemAccessDesc access{};
        access.location = property_.location;
        access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        const CUresult accessible = driver_.mem_set_access(address, bytes, &access, 1);
        if (accessible != CUDA_SUCCESS) {
            (void)driver_.mem_unmap(address, bytes);
            detail::check_driver(driver_, accessible, "cuMemSetAccess");
        }
    }

    void unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override {
        (void)try_unmap(range, offset, bytes);
    }
    bool try_unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override {
        if (backend_.is_retired()) return false;
        const detail::RelaxedCapture relaxed;
        return driver_.mem_unmap(reinterpret_cast<CUdeviceptr>(range.base) + offset, bytes) == CUDA_SUCCESS;
    }

    void release(const AddressRange& range) noexcept override {
        if (backend_.is_retired()) return;
        const detail::RelaxedCapture relaxed;
        (void)driver_.mem_address_free(reinterpret_cast<CUdeviceptr>(range.base), range.bytes);
    }

private:
    const detail::DriverApi& driver_;
    Backend& backend_;
    const int device_;
    CUmemAllocationProp property_{};
    std::size_t granularity_bytes_ = 0;
};

/// A pair of the runtime's calls that gives whole blocks.
struct BlockCalls {
    const char* name;
    cudaError_t (*allocate)(void** memory, std::size_t bytes);
    cudaError_t (*free)(void* memory);
    std::size_t (*total_bytes)();
};

class CudaBlockSource final : public ArenaSource {
public:
    CudaBlockSource(const BlockCalls& calls, Backend& backend) : calls_(calls), backend_(backend) {}

    const char* name() const noexcept override { return calls_.name; }
    bool grows() const noexcept override { return false; }
    std::size_t granularity_bytes() const noexcept override { return std::size_t{2} << 20; }
    std::size_t total_bytes() const override {
        const DeviceScope device(backend_);
        return calls_.total_bytes();
    }

    /// The calls promise 256 B. Blocks of whole 2 MiB come 2 MiB aligned as a rule; where one does not, a larger one is
    /// taken and its address remembered.
    AddressRange reserve(std::size_t bytes) override {
        const DeviceScope device(backend_);
        const detail::RelaxedCapture relaxed;
        std::byte* memory = take(bytes);
        if (misalignment(memory) == 0) return {memory, bytes};
        (void)calls_.free(memory);
        memory = take(bytes + range_alignment_bytes);
        std::byte* base = memory + (range_alignment_bytes - misalignment(memory)) % range_alignment_bytes;
        const std::lock_guard lock(mutex_);
        moved_[base] = memory;
        return {base, bytes};
    }
    void map(const AddressRange&, std::size_t, std::size_t) override {}
    void unmap(const AddressRange&, std::size_t, std::size_t) noexcept override {}
    void release(const AddressRange& range) noexcept override {
        if (backend_.is_retired()) return;
        const DeviceScope device(backend_);
        const detail::RelaxedCapture relaxed;
        std::byte* memory = range.base;
        {
            const std::lock_guard lock(mutex_);
            if (const auto moved = moved_.find(range.base); moved != moved_.end()) {
                memory = moved->second;
                moved_.erase(moved);
            }
        }
        (void)calls_.free(memory);
    }

private:
    static std::size_t misalignment(std::byte* memory) {
        return reinterpret_cast<std::uintptr_t>(memory) % range_alignment_bytes;
    }
    std::byte* take(std::size_t bytes) const {
        void* memory = nullptr;
        const cudaError_t status = calls_.allocate(&memory, bytes);
        if (status == cudaErrorMemoryAllocation) {
            (void)cudaGetLastError();
            throw out_of_memory(std::string(calls_.name) + " has no " + std::to_string(bytes) + " bytes");
        }
        check_cuda(status, calls_.name);
        return static_cast<std::byte*>(memory);
    }

    const BlockCalls calls_;
    Backend& backend_;
    std::mutex mutex_;
    std::map<std::byte*, std::byte*> moved_;
};

constexpr BlockCalls device_calls{"cudaMalloc",
                                  [](void** memory, std::size_t bytes) { return cudaMalloc(memory, bytes); },
                                  [](void* memory) { return cudaFree(memory); }, device_memory_bytes};
constexpr BlockCalls managed_calls{
    "cudaMallocManaged",
    [](void** memory, std::size_t bytes) { return cudaMallocManaged(memory, bytes, cudaMemAttachGlobal); },
    [](void* memory) { return cudaFree(memory); }, detail::total_memory_bytes};
constexpr BlockCalls pinned_calls{
    "cudaHostAlloc",
    [](void** memory, std::size_t bytes) { return cudaHostAlloc(memory, bytes, cudaHostAllocPortable); },
    [](void* memory) { return cudaFreeHost(memory); }, detail::total_memory_bytes};

std::unique_ptr<ArenaSource> make_block_source(const BlockCalls& calls) {
    return std::make_unique<CudaBlockSource>(calls, Backend::get(BackendKind::cuda));
}

const char* to_string(SourceKind source) noexcept {
    switch (source) {
    case SourceKind::automatic:
        return "automatic";
    case SourceKind::cuda_virtual:
        return "cuda_virtual";
    case SourceKind::cuda_malloc:
        return "cuda_malloc";
    case SourceKind::cuda_managed:
        return "cuda_managed";
    case SourceKind::cuda_pinned:
        return "cuda_pinned";
    case SourceKind::ordinary:
        return "ordinary";
    }
    return "unknown";
}

} // namespace

std::unique_ptr<ArenaSource> make_cuda_virtual_source() {
    return std::make_unique<CudaVirtualSource>(Backend::get(BackendKind::cuda));
}

std::unique_ptr<ArenaSource> make_cuda_malloc_source() { return make_block_source(device_calls); }
std::unique_ptr<ArenaSource> make_cuda_managed_source() { return make_block_source(managed_calls); }
std::unique_ptr<ArenaSource> make_cuda_pinned_source() { return make_block_source(pinned_calls); }

std::unique_ptr<ArenaSource> make_default_source(BackendKind backend) {
    if (backend == BackendKind::host) return make_ordinary_source();
    if (detail::is_memory_checked()) return make_cuda_malloc_source();
    try {
        return make_cuda_virtual_source();
    } catch (const cuda_error&) {
        return make_cuda_malloc_source();
    }
}

std::shared_ptr<ArenaSource> detail::source_for(const PoolOptions& options, BackendKind backend) {
    if (options.custom_source != nullptr) return options.custom_source;
    if (backend == BackendKind::host && options.source != SourceKind::automatic &&
        options.source != SourceKind::ordinary)
        throw configuration_error(std::string("PoolOptions::source = ") + to_string(options.source) +
                                  " is not allowed on the host backend, whose threads cannot reach device memory: "
                                  "expected automatic or ordinary");
    switch (options.source) {
    case SourceKind::automatic:
        return make_default_source(backend);
    case SourceKind::cuda_virtual:
        return make_cuda_virtual_source();
    case SourceKind::cuda_malloc:
        return make_cuda_malloc_source();
    case SourceKind::cuda_managed:
        return make_cuda_managed_source();
    case SourceKind::cuda_pinned:
        return make_cuda_pinned_source();
    case SourceKind::ordinary:
        return make_ordinary_source();
    }
    return nullptr;
}

} // namespace cuda_zstd
