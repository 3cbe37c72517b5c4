// SPDX-License-Identifier: MIT
#include "trace_nvtx.hpp"

#include "cuda_zstd/host/trace.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <utility>

#if CUDA_ZSTD_POOL_NVTX
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtCudaRt.h>
#include <nvtx3/nvToolsExtMem.h>
#endif

namespace cuda_zstd::detail {

#if CUDA_ZSTD_POOL_NVTX

bool is_memory_checked() noexcept {
    try {
        if (nvtx_mode() == NvtxMode::off) return false;
    } catch (...) {
        return false; // The pool says what is wrong with the mode.
    }
    // The library that compute-sanitizer has NVTX load, libsanitizer-collection.so.
    const char* const path = std::getenv("NVTX_INJECTION64_PATH");
    if (path == nullptr) return false;
    const std::string_view file(path);
    return file.substr(file.rfind('/') + 1).find("sanitizer") != std::string_view::npos;
}

void name_own_stream(cudaStream_t stream, std::uint64_t id) noexcept {
    if (nvtx_domain() == nullptr) return;
    char name[64];
    std::snprintf(name, sizeof name, "cuda_zstd stream %llu", static_cast<unsigned long long>(id));
    nvtxNameCudaStreamA(stream, name);
}

NvtxStreamName::NvtxStreamName(BackendKind kind, cudaStream_t stream, std::uint64_t id, std::uint32_t pool) noexcept {
    if (nvtx_domain() == nullptr) return;
    char name[96];
    std::snprintf(name, sizeof name, "stream %llu of cuda_zstd pool %u", static_cast<unsigned long long>(id), pool);
    nvtxResourceAttributes_t attributes{};
    attributes.version = NVTX_VERSION;
    attributes.size = NVTX_RESOURCE_ATTRIB_STRUCT_SIZE;
    attributes.identifierType = kind == BackendKind::cuda ? static_cast<std::int32_t>(NVTX_RESOURCE_TYPE_CUDART_STREAM)
                                                          : NVTX_RESOURCE_TYPE_GENERIC_POINTER;
    attributes.identifier.pValue = stream;
    attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
    attributes.message.ascii = name;
    resource_ = nvtxDomainResourceCreate(nvtx_domain(), &attributes);
}

NvtxStreamName::~NvtxStreamName() {
    if (resource_ != nullptr) nvtxDomainResourceDestroy(resource_);
}

void NvtxHeaps::add(const AddressRange& arena) {
    char name[64];
    std::snprintf(name, sizeof name, "cuda_zstd pool %u arena %llu", pool_,
                  static_cast<unsigned long long>(arenas_.fetch_add(1)));
    nvtxMemVirtualRangeDesc_t range{};
    range.size = arena.bytes;
    range.ptr = arena.base;
    nvtxMemHeapDesc_t heap{};
    heap.extCompatID = NVTX_EXT_COMPATID_MEM;
    heap.structSize = sizeof heap;
    heap.usage = NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR;
    heap.type = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    heap.typeSpecificDescSize = sizeof range;
    heap.typeSpecificDesc = &range;
    heap.messageType = NVTX_MESSAGE_TYPE_ASCII;
    heap.message.ascii = name;
    // NVTX's headers look their functions up at the first call, and do not expect two of those at once.
    static std::mutex first_call;
    nvtxMemHeapHandle_t handle = nullptr;
    {
        const std::lock_guard lock(first_call);
        handle = nvtxMemHeapRegister(nvtx_domain(), &heap);
    }
    // Null or -1: no tool takes it.
    if (handle == nullptr || reinterpret_cast<std::intptr_t>(handle) == -1) return;
    const std::lock_guard lock(mutex_);
    heaps_.push_back({arena, handle});
    wanted_.store(true, std::memory_order_relaxed);
}

void NvtxHeaps::remove(const AddressRange& arena) noexcept {
    const std::lock_guard lock(mutex_);
    std::erase_if(heaps_, [&](const Heap& heap) {
        if (heap.arena.base != arena.base) return false;
        nvtxMemHeapUnregister(nvtx_domain(), heap.handle);
        return true;
    });
}

void NvtxHeaps::add_block(const void* ptr, std::size_t bytes, const char* what) noexcept {
    const auto* const at = static_cast<const std::byte*>(ptr);
    nvtxMemHeapHandle_t handle = nullptr;
    {
        const std::shared_lock lock(mutex_);
        for (const Heap& heap : heaps_)
            if (at >= heap.arena.base && at < heap.arena.base + heap.arena.bytes) handle = heap.handle;
    }
    if (handle == nullptr) return;
    try {
        const std::lock_guard lock(regions_mutex_);
        regions_.insert_or_assign(ptr, bytes);
    } catch (...) {
        return; // No memory: the tool will take accesses to the block for errors.
    }
    nvtxMemVirtualRangeDesc_t range{};
    range.size = bytes;
    range.ptr = ptr;
    nvtxMemRegionsRegisterBatch_t batch{};
    batch.extCompatID = NVTX_EXT_COMPATID_MEM;
    batch.structSize = sizeof batch;
    batch.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    batch.heap = handle;
    batch.regionCount = 1;
    batch.regionDescElementSize = sizeof range;
    batch.regionDescElements = &range;
    nvtxMemRegionsRegister(nvtx_domain(), &batch);

    char name[50];
    std::snprintf(name, sizeof name, "%s %llu of cuda_zstd pool %u, %zu bytes", what,
                  static_cast<unsigned long long>(blocks_.fetch_add(1, std::memory_order_relaxed) + 1), pool_, bytes);
    nvtxMemRegionNameDesc_t named{};
    named.regionRefType = NVTX_MEM_REGION_REF_TYPE_POINTER;
    named.nameType = NVTX_MESSAGE_TYPE_ASCII;
    named.region.pointer = ptr;
    named.name.ascii = name;
    nvtxMemRegionsNameBatch_t names{};
    names.extCompatID = NVTX_EXT_COMPATID_MEM;
    names.structSize = sizeof names;
    names.regionCount = 1;
    names.regionElementSize = sizeof named;
    names.regionElements = &named;
    nvtxMemRegionsName(nvtx_domain(), &names);
}

std::size_t NvtxHeaps::remove_block(const void* ptr) noexcept {
    std::size_t bytes = 0;
    {
        const std::lock_guard lock(regions_mutex_);
        const auto found = regions_.find(ptr);
        if (found == regions_.end()) return 0;
        bytes = found->second;
        regions_.erase(found);
    }
    nvtxMemRegionRef_t reference{};
    reference.pointer = ptr;
    nvtxMemRegionsUnregisterBatch_t batch{};
    batch.extCompatID = NVTX_EXT_COMPATID_MEM;
    batch.structSize = sizeof batch;
    batch.refType = NVTX_MEM_REGION_REF_TYPE_POINTER;
    batch.refCount = 1;
    batch.refElementSize = sizeof reference;
    batch.refElements = &reference;
    nvtxMemRegionsUnregister(nvtx_domain(), &batch);
    return bytes;
}

void NvtxHeaps::reset() noexcept {
    {
        const std::lock_guard lock(regions_mutex_);
        regions_.clear();
    }
    const std::shared_lock lock(mutex_);
    for (const Heap& heap : heaps_)
        nvtxMemHeapReset(nvtx_domain(), heap.handle);
}

#else

nvtxDomainRegistration_st* nvtx_domain() noexcept { return nullptr; }
bool is_memory_checked() noexcept { return false; }
void name_own_stream(cudaStream_t, std::uint64_t) noexcept {}
NvtxStreamName::NvtxStreamName(BackendKind, cudaStream_t, std::uint64_t, std::uint32_t) noexcept {}
NvtxStreamName::~NvtxStreamName() = default;
void NvtxHeaps::add(const AddressRange&) {}
void NvtxHeaps::remove(const AddressRange&) noexcept {}
void NvtxHeaps::add_block(const void*, std::size_t, const char*) noexcept {}
std::size_t NvtxHeaps::remove_block(const void*) noexcept { return 0; }
void NvtxHeaps::reset() noexcept {}

#endif

namespace {

class ObservedSource final : public ArenaSource {
public:
    ObservedSource(std::shared_ptr<ArenaSource> source, NvtxHeaps& heaps, std::function<void()> reserved,
                   std::uint32_t pool)
        : source_(std::move(source)), heaps_(heaps), reserved_(std::move(reserved)), pool_(pool) {}

    const char* name() const noexcept override { return source_->name(); }
    bool grows() const noexcept override { return source_->grows(); }
    std::size_t granularity_bytes() const noexcept override { return source_->granularity_bytes(); }
    std::size_t total_bytes() const override { return source_->total_bytes(); }
    AddressRange reserve(std::size_t bytes) override {
        const AddressRange range = source_->reserve(bytes);
        try {
            heaps_.add(range);
            reserved_();
        } catch (...) {
            source_->release(range);
            throw;
        }
        return range;
    }
    void map(const AddressRange& range, std::size_t offset, std::size_t bytes) override {
        source_->map(range, offset, bytes);
    }
    void unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override {
        mark_evicted(bytes);
        source_->unmap(range, offset, bytes);
    }
    bool try_unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override {
        if (!source_->try_unmap(range, offset, bytes)) return false;
        mark_evicted(bytes);
        return true;
    }
    void release(const AddressRange& range) noexcept override {
        heaps_.remove(range);
        source_->release(range);
    }

private:
    void mark_evicted(std::size_t bytes) const noexcept {
        static const TraceName name("evict", TraceCategory::trim);
        trace_mark(name, {bytes, 0, pool_, 0});
    }

    const std::shared_ptr<ArenaSource> source_;
    NvtxHeaps& heaps_;
    const std::function<void()> reserved_;
    const std::uint32_t pool_;
};

} // namespace

std::shared_ptr<ArenaSource> observed_source(std::shared_ptr<ArenaSource> source, NvtxHeaps& heaps,
                                             std::function<void()> reserved, std::uint32_t pool) {
    return std::make_shared<ObservedSource>(std::move(source), heaps, std::move(reserved), pool);
}

} // namespace cuda_zstd::detail
