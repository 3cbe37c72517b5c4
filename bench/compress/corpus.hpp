// SPDX-License-Identifier: MIT
// Real files in memory.
// Invariant: chunks do not cross the border of two files.
#pragma once

#include "kernels/compression/compress_args.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace compress_bench {

struct Corpus {
    std::string name;
    /// The files one after the other, with the padding that kernels need before and after.
    std::vector<unsigned char> padded;
    std::vector<cuda_zstd::compression::ChunkSpan> chunks;
    std::size_t input_bytes = 0;

    const unsigned char* data() const { return padded.data() + cuda_zstd::compression::input_padding_bytes; }
    /// More chunks of the same data, until there are `bytes` of them.
    std::vector<cuda_zstd::compression::ChunkSpan> repeated(std::size_t bytes) const;
};

/// Reads files, and those in folders, until `limit_bytes`. With no paths: build/corpus/files where it exists, else
/// programs, libraries and texts of the machine. Throws std::runtime_error when there is nothing to read.
Corpus load_corpus(std::vector<std::string> paths, std::size_t limit_bytes, std::uint32_t chunk_bytes);

} // namespace compress_bench
