// SPDX-License-Identifier: MIT
#include "driver_api.hpp"

#include "backends.hpp"
#include "cuda_zstd/host/error.hpp"

#include <string>

namespace cuda_zstd::detail {
namespace {

template <class Function>
void load(Function& function, const char* name) {
    if (!find_entry_point(function, name))
        throw cuda_error(std::string("the CUDA driver has no ") + name + " of CUDA 12.0: the driver is too old");
}

} // namespace

void* find_entry_point(const char* name) noexcept {
    constexpr unsigned version = 12000;
    void* address = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t status = cudaGetDriverEntryPointByVersion(name, &address, version, cudaEnableDefault, &found);
    if (status != cudaSuccess) (void)cudaGetLastError();
    return status == cudaSuccess && found == cudaDriverEntryPointSuccess ? address : nullptr;
}

const DriverApi& driver_api() {
    static const DriverApi api = [] {
        DriverApi loaded{};
        load(loaded.get_error_name, "cuGetErrorName");
        load(loaded.device_get_attribute, "cuDeviceGetAttribute");
        load(loaded.mem_get_allocation_granularity, "cuMemGetAllocationGranularity");
        load(loaded.mem_address_reserve, "cuMemAddressReserve");
        load(loaded.mem_address_free, "cuMemAddressFree");
        load(loaded.mem_create, "cuMemCreate");
        load(loaded.mem_release, "cuMemRelease");
        load(loaded.mem_map, "cuMemMap");
        load(loaded.mem_unmap, "cuMemUnmap");
        load(loaded.mem_set_access, "cuMemSetAccess");
        return loaded;
    }();
    return api;
}

bool has_virtual_memory(const DriverApi& driver, int device) {
    int supported = 0;
    check_driver(
        driver,
        driver.device_get_attribute(&supported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device),
        "cuDeviceGetAttribute");
    return supported != 0;
}

void check_driver(const DriverApi& driver, CUresult result, const char* call) {
    if (result == CUDA_SUCCESS) return;
    const char* name = nullptr;
    if (driver.get_error_name(result, &name) != CUDA_SUCCESS || name == nullptr) name = "unknown error";
    throw cuda_error(std::string(call) + " failed: " + name);
}

} // namespace cuda_zstd::detail
