// SPDX-License-Identifier: MIT
#include "stream_calls.hpp"

#include "backends.hpp"
#include "driver_api.hpp"

namespace cuda_zstd::detail {

StreamCalls::StreamCalls() noexcept {
    (void)find_entry_point(get_id_, "cuStreamGetId");
    (void)find_entry_point(is_capturing_, "cuStreamIsCapturing");
    (void)find_entry_point(record_, "cuEventRecord");
}

std::uint64_t StreamCalls::id(cudaStream_t stream) const {
    unsigned long long id = 0;
    if (get_id_ == nullptr || get_id_(stream, &id) != CUDA_SUCCESS)
        check_cuda(cudaStreamGetId(stream, &id), "cudaStreamGetId");
    return id;
}

bool StreamCalls::is_capturing(cudaStream_t stream) const {
    CUstreamCaptureStatus seen = CU_STREAM_CAPTURE_STATUS_NONE;
    if (is_capturing_ != nullptr && is_capturing_(stream, &seen) == CUDA_SUCCESS)
        return seen != CU_STREAM_CAPTURE_STATUS_NONE;
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    const cudaError_t error = cudaStreamIsCapturing(stream, &status);
    if (error == cudaErrorStreamCaptureImplicit) {
        (void)cudaGetLastError();
        return true;
    }
    check_cuda(error, "cudaStreamIsCapturing");
    return status != cudaStreamCaptureStatusNone;
}

void StreamCalls::record(cudaEvent_t event, cudaStream_t stream) const {
    const CUresult result = record_ != nullptr ? record_(event, stream) : CUDA_ERROR_NOT_INITIALIZED;
    if (result == CUDA_SUCCESS) [[likely]]
        return;
    const bool lacks_context = result == CUDA_ERROR_NOT_INITIALIZED || result == CUDA_ERROR_INVALID_CONTEXT;
    // The runtime's errors have the driver's numbers.
    check_cuda(lacks_context ? cudaEventRecord(event, stream) : static_cast<cudaError_t>(result), "cudaEventRecord");
}

} // namespace cuda_zstd::detail
