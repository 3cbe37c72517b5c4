// SPDX-License-Identifier: MIT
// Compresses a buffer chunk by chunk with the codec's templates, in the caller's thread.
// Invariant: buffers are exactly as large as their contents, so that a sanitizer sees any byte read beyond them.
#pragma once

#include "corpus.hpp"
#include "test_pool.hpp"

#include "cuda_zstd/env/solo_env.hpp"
#include "kernels/compression/frame_writer.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace compress_test {

using cuda_zstd::compression::ChunkResult;
using cuda_zstd::compression::ChunkSpan;
using cuda_zstd::compression::ChunkState;
using cuda_zstd::compression::CompressArgs;
using cuda_zstd::compression::ContentChecksum;

inline constexpr cuda_zstd::detail::FseTables fse_tables = cuda_zstd::detail::make_fse_tables();

/// The arguments of a launch and the memory that they name.
class Job {
public:
    Job(const Bytes& input, std::uint32_t chunk_bytes, ContentChecksum checksum) : input_(input) {
        for (std::size_t at = 0; at < input.size() || spans_.empty(); at += chunk_bytes)
            spans_.push_back(
                {at, static_cast<std::uint32_t>(std::min<std::size_t>(chunk_bytes, input.size() - at)), 0});
        results_.resize(spans_.size());
        offsets_.resize(spans_.size() + 1);
        args_.input = input_.data();
        args_.chunks = spans_.data();
        args_.chunk_count = static_cast<std::uint32_t>(spans_.size());
        args_.checksum = checksum;
        args_.results = results_.data();
        args_.frame_offsets = offsets_.data();
    }
    const CompressArgs& args() const { return args_; }
    const std::vector<ChunkResult>& results() const { return results_; }

    /// What the scan between compression and gather does.
    void scan() {
        std::uint64_t total = 0;
        for (auto& offset : offsets_)
            total += std::exchange(offset, total);
        packed_.assign(offsets_.back(), 0xEE);
    }
    Bytes& packed() { return packed_; }

private:
    const Bytes& input_;
    std::vector<ChunkSpan> spans_;
    std::vector<ChunkResult> results_;
    std::vector<std::uint64_t> offsets_;
    Bytes packed_;
    CompressArgs args_;
};

class SoloCodec {
public:
    SoloCodec() : workspace_(std::make_unique<cuda_zstd::detail::ChunkWorkspace<cuda_zstd::solo_env>>()) {
        workspace_->fse = fse_tables;
    }
    void compress(Job& job, TestPool& pool) {
        for (std::uint32_t i = 0; i < job.args().chunk_count; ++i)
            cuda_zstd::detail::compress_chunk(env_, pool, *workspace_, job.args(), i);
    }
    void gather(Job& job, TestPool& pool) {
        job.scan();
        for (std::uint32_t i = 0; i < job.args().chunk_count; ++i)
            cuda_zstd::detail::gather_chunk(env_, pool, job.args(), job.packed().data(), i);
    }
    Bytes frames(const Bytes& input, std::uint32_t chunk_bytes, ContentChecksum checksum, TestPool& pool) {
        Job job(input, chunk_bytes, checksum);
        compress(job, pool);
        gather(job, pool);
        return job.packed();
    }

private:
    cuda_zstd::solo_env env_;
    std::unique_ptr<cuda_zstd::detail::ChunkWorkspace<cuda_zstd::solo_env>> workspace_;
};

} // namespace compress_test
