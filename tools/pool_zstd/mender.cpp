// SPDX-License-Identifier: MIT
#include "mender.hpp"

#include "cuda_zstd/host/error.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace pool_zstd {

using cuda_zstd::compression::ChunkResult;
using cuda_zstd::compression::ChunkState;
using cuda_zstd::compression::worst_case_scratch_bytes;

namespace {

/// Enough to keep a GPU busy; more would only take memory for buffers.
constexpr std::size_t most_together = 512;

bool had_no_memory(const ChunkResult& result) { return result.state == ChunkState::no_memory; }

} // namespace

Mender::Mender(const Options& options, cuda_zstd::MemoryPoolManager& manager, cuda_zstd::DevicePool& pool)
    : options_(options), manager_(manager), pool_(pool),
      most_chunks_(static_cast<std::uint32_t>(std::clamp<std::size_t>(
          options.pool_bytes / worst_case_scratch_bytes(options.chunk_bytes), 1, most_together))) {}

bool Mender::is_needed(const Wave& wave) { return std::ranges::any_of(wave.results(), had_no_memory); }

double Mender::mend(Wave& wave) {
    kernel_ms_ = 0;
    std::vector<std::uint32_t> left;
    for (std::uint32_t chunk = 0; chunk < wave.results().size(); ++chunk) {
        // An empty chunk is no larger when it is stored.
        if (had_no_memory(wave.results()[chunk]) && !wave.chunk_input(chunk).empty()) left.push_back(chunk);
    }
    try {
        if (small_ == nullptr)
            small_ =
                std::make_unique<Wave>(manager_.backend(), manager_, std::size_t{most_chunks_} * options_.chunk_bytes,
                                       options_.chunk_bytes, options_.checksum);
    } catch (const cuda_zstd::out_of_memory&) {
        return 0; // then they stay stored
    }
    std::vector<Wave::NewFrame> mended;
    for (const std::size_t together : {std::size_t{most_chunks_}, std::size_t{1}}) {
        std::vector<std::uint32_t> again;
        for (std::span<const std::uint32_t> rest = left; !rest.empty();) {
            const std::size_t count = std::min(together, rest.size());
            for (const std::uint32_t chunk : compress(wave, rest.first(count), mended))
                again.push_back(chunk);
            rest = rest.subspan(count);
        }
        left = std::move(again);
    }
    std::ranges::sort(mended, {}, &Wave::NewFrame::chunk);
    wave.replace(mended);
    return kernel_ms_;
}

std::vector<std::uint32_t> Mender::compress(const Wave& wave, std::span<const std::uint32_t> chunks,
                                            std::vector<Wave::NewFrame>& mended) {
    small_->clear();
    for (const std::uint32_t chunk : chunks) {
        const std::span<const unsigned char> input = wave.chunk_input(chunk);
        std::memcpy(small_->tail(), input.data(), input.size());
        small_->add(nullptr, input.size(), WavePart::Position::inside);
    }
    small_->submit(pool_);
    small_->compact(pool_);
    small_->collect();
    kernel_ms_ += small_->kernel_ms();
    std::vector<std::uint32_t> failed;
    for (std::uint32_t i = 0; i < chunks.size(); ++i) {
        ChunkResult result = small_->results()[i];
        if (had_no_memory(result)) {
            failed.push_back(chunks[i]);
            continue;
        }
        result.failed_attempts += wave.results()[chunks[i]].failed_attempts;
        const std::span<const unsigned char> frame = small_->frame(i);
        mended.push_back({chunks[i], result, {frame.begin(), frame.end()}});
    }
    return failed;
}

} // namespace pool_zstd
