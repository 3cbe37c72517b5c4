// SPDX-License-Identifier: MIT
// The two backends, as src sees them.
// Invariant: each is made once, on first use, and never destroyed, so it may be used until the process ends.
#pragma once

#include "cuda_zstd/host/backend.hpp"

#include <cuda_runtime_api.h>

#include <string>

namespace cuda_zstd::detail {

/// Throws `configuration_error` when no device answers.
Backend& cuda_backend(int device);
Backend& host_backend(int device);
/// Devices that answer; 0 where there is no driver.
int cuda_device_count() noexcept;
int host_device_count();
/// Of the calling thread.
extern constinit thread_local int current_host_device;

/// Throws `usage_error`: a stream of `device` was named to the backend of `own_device`.
[[noreturn]] void refuse_stream_of(int device, int own_device);

/// Throws `cuda_error` naming `call` and the reason, unless `status` is success.
void check_cuda(cudaError_t status, const char* call);

/// While it lives, this thread may make calls that a capture going on in another thread would forbid.
class RelaxedCapture {
public:
    RelaxedCapture() noexcept { cudaThreadExchangeStreamCaptureMode(&mode_); }
    ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
    RelaxedCapture(const RelaxedCapture&) = delete;
    RelaxedCapture& operator=(const RelaxedCapture&) = delete;

private:
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

} // namespace cuda_zstd::detail
