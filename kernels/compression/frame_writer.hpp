// SPDX-License-Identifier: MIT
// A chunk as a standard frame: compressed by `compress_chunk`, put in its place by `gather_chunk`.
//
// Invariant: a chunk is one frame with content size, single segment, one last block: compressed where that is smaller,
// else stored, or one repeated byte. Between the two only the output list of a compressed chunk is held of the pool.
#pragma once

#include "block_writer.hpp"
#include "xxh64.hpp"

namespace cuda_zstd::detail {

/// Compresses chunk `index` of `args`, if it is still to be done. All lanes of the warp call.
template <class Env, class Pool>
CUDA_ZSTD_HD void compress_chunk(Env& env, Pool& pool, ChunkWorkspace<Env>& workspace,
                                 const compression::CompressArgs& args, std::uint32_t index) {
    using compression::ChunkState;
    constexpr LaneMask warp = whole_warp<Env>;
    compression::ChunkResult result = args.results[index];
    env.sync(warp);
    if (result.state != ChunkState::pending && result.state != ChunkState::no_memory) return;
    const compression::ChunkSpan chunk = args.chunks[index];
    const unsigned char* const input = args.input + chunk.offset;
    result.output = nullptr;
    result.content_bytes = chunk.bytes;
    const bool hash = args.checksum == compression::ContentChecksum::present && result.failed_attempts == 0;
    if (hash) result.checksum = static_cast<std::uint32_t>(Xxh64::hash(env, input, chunk.bytes, warp));
    if (chunk.bytes > 1 && all_equal(env, input, chunk.bytes, input[0], warp)) {
        result.state = ChunkState::repeated;
        result.content_bytes = 1;
    } else {
        write_block(env, pool, workspace, input, chunk.bytes, result);
    }
    if (result.state == ChunkState::no_memory) ++result.failed_attempts;
    result.frame_bytes = result.content_bytes + frame_overhead_bytes(chunk.bytes, args.checksum);
    if (env.lane() == 0) {
        args.results[index] = result;
        args.frame_offsets[index] = result.frame_bytes;
    }
    env.sync(warp);
}

/// Writes the frame of chunk `index` at its place in `packed` and frees its output. All lanes of the warp call.
template <class Env, class Pool>
CUDA_ZSTD_HD void gather_chunk(Env& env, Pool& pool, const compression::CompressArgs& args, unsigned char* packed,
                               std::uint32_t index) {
    using compression::ChunkState;
    const compression::ChunkResult result = args.results[index];
    const compression::ChunkSpan chunk = args.chunks[index];
    unsigned char* to = packed + args.frame_offsets[index];
    const unsigned char* const input = args.input + chunk.offset;
    const std::uint32_t type = result.state == ChunkState::compressed ? 2
                               : result.state == ChunkState::repeated ? 1
                                                                      : 0;
    const std::uint32_t checksum_bytes = args.checksum == compression::ContentChecksum::present ? 4 : 0;
    if (env.lane() == 0) {
        put_frame_header(to, chunk.bytes, args.checksum, type, type == 1 ? chunk.bytes : result.content_bytes);
        put_bytes(to + result.frame_bytes - checksum_bytes, result.checksum, checksum_bytes);
    }
    to += result.frame_bytes - checksum_bytes - result.content_bytes;
    if (type != 2) {
        copy_bytes(env, to, input, result.content_bytes);
        return;
    }
    for (const OutputBlock* block = result.output; block != nullptr; block = block->next) {
        copy_bytes(env, to, block->data(), block->bytes);
        to += block->bytes;
    }
    env.sync(whole_warp<Env>);
    free_output(env, pool, result.output);
    if (env.lane() == 0) args.results[index].output = nullptr;
}

} // namespace cuda_zstd::detail
