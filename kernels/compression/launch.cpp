// SPDX-License-Identifier: MIT
#include "launch.hpp"

namespace cuda_zstd::compression {

void launch_compress_once(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args) {
    if (args.chunk_count == 0) return;
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::compress_on_cuda(stream, pool, args);
    } else {
        detail::compress_on_host(backend, stream, pool, args);
    }
}

void launch_compress(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args) {
    launch_compress_once(backend, stream, pool, args);
    launch_compress_once(backend, stream, pool, args);
}

void launch_gather(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args,
                   const GatherArgs& gather) {
    const DeviceScope device(backend);
    if (backend.kind() == BackendKind::cuda) {
        detail::gather_on_cuda(stream, pool, args, gather);
    } else {
        detail::gather_on_host(backend, stream, pool, args, gather);
    }
}

std::size_t gather_scratch_bytes(Backend& backend, std::uint32_t chunk_count) {
    const DeviceScope device(backend);
    return backend.kind() == BackendKind::cuda ? detail::gather_scratch_bytes_on_cuda(chunk_count) : 0;
}

} // namespace cuda_zstd::compression
