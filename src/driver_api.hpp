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
    decltype(&cuStreamGetId) stream_get_id;
    decltype(&cuStreamIsCapturing) stream_is_capturing;
};

/// Throws `cuda_error` that names the entry point that the driver has not.
const DriverApi& driver_api();
bool has_virtual_memory(const DriverApi& driver, int device);
/// Throws `cuda_error` naming `call` and the reason, unless `result` is success.
void check_driver(const DriverApi& driver, CUresult result, const char* call);

} // namespace cuda_zstd::detail
