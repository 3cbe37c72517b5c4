// SPDX-License-Identifier: MIT
// What a launch of the chunk compressor is given, and what it reports for each chunk.
//
// Invariant: plain data. Buffers that the kernels touch are memory of the backend (device memory under CUDA); `input`
// is readable for `input_padding_bytes` before its first and after its last chunk, since words are read whole.
#pragma once

#include "output_list.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd::compression {

inline constexpr std::uint32_t smallest_chunk_bytes = 1024;
/// The largest block of the format, since a chunk is one block.
inline constexpr std::uint32_t largest_chunk_bytes = 131072;
/// Bytes that must be readable before and after the input.
inline constexpr std::size_t input_padding_bytes = 16;

/// A chunk of the input: one frame of its own. 16 bytes.
struct ChunkSpan {
    std::uint64_t offset;
    /// 0 to 128 KiB.
    std::uint32_t bytes;
    std::uint32_t reserved;
};

enum class ChunkState : std::uint32_t {
    /// Not compressed yet.
    pending = 0,
    /// A compressed block: the content is in `output`.
    compressed,
    /// One byte, repeated.
    repeated,
    /// Stored as it is, since that is smaller.
    stored,
    /// Stored as it is, since the pool had no memory. A later launch tries again.
    no_memory,
};

/// What became of a chunk. 48 bytes.
struct ChunkResult {
    detail::OutputBlock* output;
    ChunkState state;
    /// Of the whole frame: header, block, checksum.
    std::uint32_t frame_bytes;
    /// Of the block's content.
    std::uint32_t content_bytes;
    /// Low 32 bits of the XXH64 of the chunk, when asked for.
    std::uint32_t checksum;
    std::uint32_t sequence_count;
    /// The most that this chunk held of the pool at one time, in bytes.
    std::uint32_t scratch_bytes;
    /// Launches that had no memory for it.
    std::uint32_t failed_attempts;
    std::uint32_t reserved[3];
};
static_assert(sizeof(ChunkResult) == 48);

enum class ContentChecksum : std::uint32_t { absent, present };

struct CompressArgs {
    const unsigned char* input = nullptr;
    const ChunkSpan* chunks = nullptr;
    std::uint32_t chunk_count = 0;
    ContentChecksum checksum = ContentChecksum::absent;
    /// One for each chunk; all `pending` (zero bytes) before the first launch. A launch does the chunks that are
    /// `pending` or `no_memory`.
    ChunkResult* results = nullptr;
    /// chunk_count + 1 words: after the gather, where each frame begins in `packed`, and the total.
    std::uint64_t* frame_offsets = nullptr;
};

struct GatherArgs {
    /// Where the frames go, one after the other: `packed_bound` bytes are always enough.
    unsigned char* packed = nullptr;
    /// `gather_scratch_bytes` bytes of the backend's memory.
    void* scratch = nullptr;
    std::size_t scratch_bytes = 0;
};

/// Bytes of frame around a block: magic, descriptor, content size (4), block header (3), checksum (4).
inline constexpr std::uint32_t largest_frame_overhead_bytes = 16;

/// The most that the frames of `chunk_count` chunks with `input_bytes` bytes in all can take.
constexpr std::size_t packed_bound(std::size_t input_bytes, std::size_t chunk_count) {
    return input_bytes + chunk_count * largest_frame_overhead_bytes;
}

/// What a compressor without a pool would reserve for a chunk: chunk/4 sequences of 8 bytes, and the output bound of
/// libzstd (ZSTD_COMPRESSBOUND of zstd.h: the size, 1/256 of it, and a margin for small inputs).
constexpr std::uint64_t worst_case_scratch_bytes(std::uint64_t chunk_bytes) {
    const std::uint64_t margin = chunk_bytes < 131072 ? (131072 - chunk_bytes) >> 11 : 0;
    return chunk_bytes / 4 * 8 + chunk_bytes + (chunk_bytes >> 8) + margin;
}

} // namespace cuda_zstd::compression
