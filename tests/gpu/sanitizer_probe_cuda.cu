// SPDX-License-Identifier: MIT
// What of NVTX's memory calls compute-sanitizer takes: one byte written past a region, with one thing changed at a
// time. Usage: sanitizer_probe VARIANT; tools/planted_check.py runs all of them.
//
//   plain      as NVIDIA's sample: the context, a domain, a block of cudaMalloc as a heap, a region of it
//   named      the heap has a name
//   early      the domain is made when the driver has answered, before there is a context
//   nodomain   no domain
//   part       the heap is the second half of what cudaMalloc gave
//   virtual    the heap is memory that was mapped into a reserved range
//
// Invariant: the byte is mapped memory, so nothing but a region can make the write an error. Prints the handles that
// the tool gave.
#include "cuda_zstd/host/arena_source.hpp"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>

#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace {

constexpr std::size_t heap_bytes = std::size_t{2} << 20;
constexpr std::size_t region_offset = 1024;
constexpr std::size_t region_bytes = 1000;

__global__ void write_kernel(char* at) { *at = 1; }

void check(cudaError_t status, const char* call) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorName(status));
}

char* memory_of(const std::string& variant) {
    if (variant == "virtual") {
        static const auto source = cuda_zstd::make_cuda_virtual_source();
        const cuda_zstd::AddressRange range = source->reserve(heap_bytes);
        source->map(range, 0, heap_bytes);
        return reinterpret_cast<char*>(range.base);
    }
    void* memory = nullptr;
    check(cudaMalloc(&memory, 2 * heap_bytes), "cudaMalloc");
    return static_cast<char*>(memory) + (variant == "part" ? heap_bytes : 0);
}

nvtxMemHeapHandle_t register_heap(nvtxDomainHandle_t domain, char* base, std::size_t bytes, const char* name) {
    nvtxMemVirtualRangeDesc_t range{};
    range.size = bytes;
    range.ptr = base;
    nvtxMemHeapDesc_t heap{};
    heap.extCompatID = NVTX_EXT_COMPATID_MEM;
    heap.structSize = sizeof heap;
    heap.usage = NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR;
    heap.type = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    heap.typeSpecificDescSize = sizeof range;
    heap.typeSpecificDesc = &range;
    if (name != nullptr) {
        heap.messageType = NVTX_MESSAGE_TYPE_ASCII;
        heap.message.ascii = name;
    }
    return nvtxMemHeapRegister(domain, &heap);
}

void register_region(nvtxDomainHandle_t domain, nvtxMemHeapHandle_t heap, char* base, std::size_t bytes) {
    nvtxMemVirtualRangeDesc_t range{};
    range.size = bytes;
    range.ptr = base;
    nvtxMemRegionsRegisterBatch_t batch{};
    batch.extCompatID = NVTX_EXT_COMPATID_MEM;
    batch.structSize = sizeof batch;
    batch.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    batch.heap = heap;
    batch.regionCount = 1;
    batch.regionDescElementSize = sizeof range;
    batch.regionDescElements = &range;
    nvtxMemRegionsRegister(domain, &batch);
}

} // namespace

int main(int argc, char** argv) try {
    if (argc != 2) throw std::runtime_error("usage: sanitizer_probe VARIANT");
    const std::string variant = argv[1];
    nvtxDomainHandle_t domain = nullptr;
    if (variant == "early") {
        int devices = 0;
        check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
        domain = nvtxDomainCreateA("cuda_zstd probe");
    }
    check(cudaFree(nullptr), "cudaFree");
    if (variant != "early" && variant != "nodomain") domain = nvtxDomainCreateA("cuda_zstd probe");
    char* const base = memory_of(variant);
    const bool is_whole = variant != "part" && variant != "virtual";
    const nvtxMemHeapHandle_t heap =
        register_heap(domain, base, is_whole ? 2 * heap_bytes : heap_bytes, variant == "named" ? "probe" : nullptr);
    std::printf("probe %s: domain %p, heap %p, region %p\n", variant.c_str(), static_cast<void*>(domain),
                static_cast<void*>(heap), static_cast<void*>(base + region_offset));
    std::fflush(stdout);
    register_region(domain, heap, base + region_offset, region_bytes);
    write_kernel<<<1, 1>>>(base + region_offset + region_bytes - 1);
    check(cudaDeviceSynchronize(), "the write inside of the region");
    write_kernel<<<1, 1>>>(base + region_offset + region_bytes);
    (void)cudaDeviceSynchronize(); // The tool may have ended the context.
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "sanitizer_probe: %s\n", error.what());
    return 1;
}
