// SPDX-License-Identifier: MIT
// CUDA's two sources: virtual memory through the driver, and cudaMalloc.
#include "cuda_zstd/host/arena_source.hpp"

#include "backends.hpp"
#include "cuda_zstd/host/error.hpp"
#include "driver_api.hpp"

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
    CudaVirtualSource() : driver_(detail::driver_api()) {
        check_cuda(cudaGetDevice(&device_), "cudaGetDevice");
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
    std::size_t total_bytes() const override { return device_memory_bytes(); }

    AddressRange reserve(std::size_t bytes) override {
        bind_context(device_);
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
        const detail::RelaxedCapture relaxed;
        (void)driver_.mem_unmap(reinterpret_cast<CUdeviceptr>(range.base) + offset, bytes);
    }

    void release(const AddressRange& range) noexcept override {
        (void)driver_.mem_address_free(reinterpret_cast<CUdeviceptr>(range.base), range.bytes);
    }

private:
    const detail::DriverApi& driver_;
    int device_ = 0;
    CUmemAllocationProp property_{};
    std::size_t granularity_bytes_ = 0;
};

class CudaMallocSource final : public ArenaSource {
public:
    const char* name() const noexcept override { return "cudaMalloc"; }
    bool grows() const noexcept override { return false; }
    std::size_t granularity_bytes() const noexcept override { return std::size_t{2} << 20; }
    std::size_t total_bytes() const override { return device_memory_bytes(); }

    /// cudaMalloc promises 256 B. Blocks of whole 2 MiB come 2 MiB aligned as a rule; where one does not, a larger one
    /// is taken and its address remembered.
    AddressRange reserve(std::size_t bytes) override {
        const detail::RelaxedCapture relaxed;
        std::byte* memory = take(bytes);
        if (misalignment(memory) == 0) return {memory, bytes};
        (void)cudaFree(memory);
        memory = take(bytes + range_alignment_bytes);
        std::byte* base = memory + (range_alignment_bytes - misalignment(memory)) % range_alignment_bytes;
        const std::lock_guard lock(mutex_);
        moved_[base] = memory;
        return {base, bytes};
    }
    void map(const AddressRange&, std::size_t, std::size_t) override {}
    void unmap(const AddressRange&, std::size_t, std::size_t) noexcept override {}
    void release(const AddressRange& range) noexcept override {
        const detail::RelaxedCapture relaxed;
        std::byte* memory = range.base;
        {
            const std::lock_guard lock(mutex_);
            if (const auto moved = moved_.find(range.base); moved != moved_.end()) {
                memory = moved->second;
                moved_.erase(moved);
            }
        }
        (void)cudaFree(memory);
    }

private:
    static std::size_t misalignment(std::byte* memory) {
        return reinterpret_cast<std::uintptr_t>(memory) % range_alignment_bytes;
    }
    static std::byte* take(std::size_t bytes) {
        void* memory = nullptr;
        const cudaError_t status = cudaMalloc(&memory, bytes);
        if (status == cudaErrorMemoryAllocation) {
            (void)cudaGetLastError();
            throw out_of_memory("cudaMalloc has no " + std::to_string(bytes) + " bytes");
        }
        check_cuda(status, "cudaMalloc");
        return static_cast<std::byte*>(memory);
    }

    std::mutex mutex_;
    std::map<std::byte*, std::byte*> moved_;
};

} // namespace

std::unique_ptr<ArenaSource> make_cuda_virtual_source() {
    (void)detail::cuda_backend();
    return std::make_unique<CudaVirtualSource>();
}

std::unique_ptr<ArenaSource> make_cuda_malloc_source() {
    (void)detail::cuda_backend();
    return std::make_unique<CudaMallocSource>();
}

std::unique_ptr<ArenaSource> make_default_source(BackendKind backend) {
    if (backend == BackendKind::host) return make_ordinary_source();
    try {
        return make_cuda_virtual_source();
    } catch (const cuda_error&) {
        return make_cuda_malloc_source();
    }
}

} // namespace cuda_zstd
