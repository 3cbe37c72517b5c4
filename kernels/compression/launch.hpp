// SPDX-License-Identifier: MIT
// Launchers of the chunk compressor, for either backend.
// Invariant: each returns at once; its work is done in `stream` order. The buffers live until then.
#pragma once

#include "compress_args.hpp"

#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/host/backend.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd::compression {

/// How often `launch_compress` tries a chunk before it is stored for want of memory.
inline constexpr std::uint32_t launch_attempts = 2;

/// Compresses every chunk that is `pending` or had `no_memory`, then tries those again that had no memory, when the
/// others have freed their lists. What had none twice is stored. Throws `cuda_error` when a launch is refused.
void launch_compress(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args);

/// The same without the second attempt.
void launch_compress_once(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args);

/// Packs all frames, in the order of the chunks, sets `frame_offsets`, and frees the chunks' output. Each chunk was
/// compressed by an earlier launch on the stream.
void launch_gather(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args,
                   const GatherArgs& gather);

/// Bytes of GatherArgs::scratch for this many chunks.
std::size_t gather_scratch_bytes(Backend& backend, std::uint32_t chunk_count);

namespace detail {
// The backends' versions.
void compress_on_cuda(cudaStream_t stream, const DevicePool& pool, const CompressArgs& args);
void compress_on_host(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args);
void gather_on_cuda(cudaStream_t stream, const DevicePool& pool, const CompressArgs& args, const GatherArgs& gather);
void gather_on_host(Backend& backend, cudaStream_t stream, const DevicePool& pool, const CompressArgs& args,
                    const GatherArgs& gather);
std::size_t gather_scratch_bytes_on_cuda(std::uint32_t chunk_count);
} // namespace detail

} // namespace cuda_zstd::compression
