// SPDX-License-Identifier: MIT
// The headers of the zstd format (RFC 8878, section 3.1.1): frame, block, literals section, sequences section.
//
// Invariant: pure functions of sizes and counts; each writes what its `_bytes` function, where there is one, counts.
// Called by one lane.
#pragma once

#include "compress_args.hpp"

#include "cuda_zstd/core/config.hpp"

#include <cstdint>

namespace cuda_zstd::detail {

/// Little-endian bytes into `to`, by one lane; the number of bytes.
CUDA_ZSTD_INLINE std::uint32_t put_bytes(unsigned char* to, std::uint32_t value, std::uint32_t bytes) {
    for (std::uint32_t i = 0; i < bytes; ++i)
        to[i] = static_cast<unsigned char>(value >> (8 * i));
    return bytes;
}

/// Bytes of a frame around its block's content.
CUDA_ZSTD_INLINE std::uint32_t frame_overhead_bytes(std::uint32_t chunk_bytes, compression::ContentChecksum checksum) {
    return 4 + 1 +
           (chunk_bytes < 256     ? 1
            : chunk_bytes < 65792 ? 2
                                  : 4) +
           3 + (checksum == compression::ContentChecksum::present ? 4 : 0);
}

/// Writes a frame's bytes before the block's content by one lane; their number, at most 12.
CUDA_ZSTD_INLINE std::uint32_t put_frame_header(unsigned char* to, std::uint32_t chunk_bytes,
                                                compression::ContentChecksum checksum, std::uint32_t block_type,
                                                std::uint32_t block_size) {
    const std::uint32_t size_code = chunk_bytes < 256 ? 0 : chunk_bytes < 65792 ? 1 : 2;
    std::uint32_t at = put_bytes(to, 0xFD2FB528u, 4);
    at += put_bytes(to + at, size_code << 6 | 1u << 5 | static_cast<std::uint32_t>(checksum) << 2, 1);
    at += put_bytes(to + at, size_code == 1 ? chunk_bytes - 256 : chunk_bytes, 1u << size_code);
    return at + put_bytes(to + at, 1u | block_type << 1 | block_size << 3, 3);
}

/// The header of a section of raw literals; its bytes, at most 3. (Literals that are all the same byte do not occur:
/// matches could only repeat it, so the whole chunk would be that byte.)
CUDA_ZSTD_INLINE std::uint32_t put_literals_header(unsigned char* to, std::uint32_t bytes) {
    if (bytes < 32) return put_bytes(to, bytes << 3, 1);
    if (bytes < 4096) return put_bytes(to, 1u << 2 | bytes << 4, 2);
    return put_bytes(to, 3u << 2 | bytes << 4, 3);
}

/// A sequences section header: the count, and a byte that asks for predefined tables; its bytes, at most 4.
CUDA_ZSTD_INLINE std::uint32_t put_sequences_header(unsigned char* to, std::uint32_t count) {
    std::uint32_t bytes = 0;
    if (count < 128) {
        bytes = put_bytes(to, count, 1);
    } else if (count < 0x7F00) {
        to[0] = static_cast<unsigned char>((count >> 8) + 128);
        to[1] = static_cast<unsigned char>(count);
        bytes = 2;
    } else {
        to[0] = 255;
        bytes = 1 + put_bytes(to + 1, count - 0x7F00, 2);
    }
    return bytes + put_bytes(to + bytes, 0, 1);
}

} // namespace cuda_zstd::detail
