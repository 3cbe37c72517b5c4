// SPDX-License-Identifier: MIT
#include "stream_calls.hpp"

#include "backends.hpp"
#include "driver_api.hpp"

namespace cuda_zstd::detail {

StreamCalls::StreamCalls() : driver_(driver_api()) {}

std::uint64_t StreamCalls::id(cudaStream_t stream) const {
    unsigned long long id = 0;
    if (driver_.stream_get_id(stream, &id) != CUDA_SUCCESS) check_cuda(cudaStreamGetId(stream, &id), "cudaStreamGetId");
    return id;
}

bool StreamCalls::is_capturing(cudaStream_t stream) const {
    CUstreamCaptureStatus seen = CU_STREAM_CAPTURE_STATUS_NONE;
    if (driver_.stream_is_capturing(stream, &seen) == CUDA_SUCCESS) return seen != CU_STREAM_CAPTURE_STATUS_NONE;
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    const cudaError_t error = cudaStreamIsCapturing(stream, &status);
    if (error == cudaErrorStreamCaptureImplicit) {
        (void)cudaGetLastError();
        return true;
    }
    check_cuda(error, "cudaStreamIsCapturing");
    return status != cudaStreamCaptureStatusNone;
}

} // namespace cuda_zstd::detail
