// SPDX-License-Identifier: MIT
#include "stream_calls.hpp"

#include "backends.hpp"
#include "driver_api.hpp"

namespace cuda_zstd::detail {

StreamCalls::StreamCalls() noexcept {
    (void)find_entry_point(get_id_, "cuStreamGetId");
    (void)find_entry_point(is_capturing_, "cuStreamIsCapturing");
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

} // namespace cuda_zstd::detail
