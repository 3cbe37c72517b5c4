// SPDX-License-Identifier: MIT
// The driver's calls that the runtime has no form of, or a slower one, found at run time.
// Invariant: libcuda is not linked, so a program starts where no driver is installed; the table is made only where a
// device answers.
#pragma once

#include <cuda.h>

namespace cuda_zstd::detail {

struct DriverApi {
    decltype(&cuGetErrorName) get_error_name;
    decltype(&cuDeviceGetAttribute) device_get_attribute;
    decltype(&cuMemGetAllocationGranularity) mem_get_allocation_granularity;
    decltype(&cuMemAddressReserve) mem_address_reserve;
    decltype(&cuMemAddressFree) mem_address_free;
    decltype(&cuMemCreate) mem_create;
    decltype(&cuMemRelease) mem_release;
    decltype(&cuMemMap) mem_map;
    decltype(&cuMemUnmap) mem_unmap;
    decltype(&cuMemSetAccess) mem_set_access;
};

/// Throws `cuda_error` that names the entry point that the driver has not.
const DriverApi& driver_api();
/// One entry point, in the form that CUDA 12.0 knows, whatever the driver's own version; null where there is none.
void* find_entry_point(const char* name) noexcept;
template <class Function>
bool find_entry_point(Function& function, const char* name) noexcept {
    function = reinterpret_cast<Function>(find_entry_point(name));
    return function != nullptr;
}
bool has_virtual_memory(const DriverApi& driver, int device);
/// Throws `cuda_error` naming `call` and the reason, unless `result` is success.
void check_driver(const DriverApi& driver, CUresult result, const char* call);

} // namespace cuda_zstd::detail
