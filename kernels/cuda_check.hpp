// SPDX-License-Identifier: MIT
// Errors of launches, as exceptions.
#pragma once

#include "cuda_zstd/host/error.hpp"

#include "kernels/launch_fault.hpp"

#include <cuda_runtime_api.h>

#include <string>

namespace cuda_zstd {

/// Throws `cuda_error` naming the kernel when its launch was refused.
inline void check_launch(const char* kernel) {
    cudaError_t error = cudaGetLastError();
    if (detail::launch_fault.is_due()) error = cudaErrorLaunchOutOfResources;
    if (error != cudaSuccess)
        throw cuda_error(std::string("launch of ") + kernel + " failed: " + cudaGetErrorString(error));
}

} // namespace cuda_zstd
