// SPDX-License-Identifier: MIT
#include "wave.hpp"

#include "message.hpp"

#include "cuda_zstd/host/trace.hpp"

#include <algorithm>
#include <cstring>

namespace pool_zstd {

using cuda_zstd::compression::CompressArgs;
using cuda_zstd::compression::ContentChecksum;
using cuda_zstd::compression::GatherArgs;
using cuda_zstd::compression::input_padding_bytes;

namespace {

/// Short last chunks of many small files share a wave; each begins at a multiple of this.
constexpr std::size_t chunk_alignment_bytes = 16;
/// Chunks that a wave takes beyond those of full size.
constexpr std::uint32_t spare_chunks = 1024;

} // namespace

Wave::Timeline::Timeline(cuda_zstd::Backend& of_backend)
    : backend(of_backend), stream(backend.create_stream()), begin(backend.create_event()), end(backend.create_event()) {
}

Wave::Timeline::~Timeline() {
    backend.destroy_event(begin);
    backend.destroy_event(end);
    try {
        backend.destroy_stream(stream);
    } catch (const std::exception& error) {
        say("pool-zstd: {}\n", error.what());
    }
}

Wave::Mirrored::Mirrored(Wave& wave, std::size_t bytes) : host(std::make_unique<PinnedBuffer>(wave.backend_, bytes)) {
    if (wave.backend_.kind() == cuda_zstd::BackendKind::cuda)
        device = cuda_zstd::PooledBuffer(wave.manager_, bytes, wave.timeline_.stream);
}

Wave::Wave(cuda_zstd::Backend& backend, cuda_zstd::MemoryPoolManager& manager, std::size_t capacity_bytes,
           std::uint32_t chunk_bytes, Checksum checksum)
    : backend_(backend), manager_(manager), capacity_bytes_(capacity_bytes), chunk_bytes_(chunk_bytes),
      most_chunks_(static_cast<std::uint32_t>(capacity_bytes / chunk_bytes) + spare_chunks), checksum_(checksum),
      timeline_(backend),
      input_(*this, capacity_bytes + most_chunks_ * chunk_alignment_bytes + 2 * input_padding_bytes),
      packed_(*this, cuda_zstd::compression::packed_bound(capacity_bytes, most_chunks_)),
      spans_(*this, most_chunks_ * sizeof(ChunkSpan)), results_(*this, most_chunks_ * sizeof(ChunkResult)),
      offsets_(*this, (most_chunks_ + std::size_t{1}) * sizeof(std::uint64_t)) {
    const std::size_t scratch_bytes = cuda_zstd::compression::gather_scratch_bytes(backend, most_chunks_);
    if (scratch_bytes != 0) scan_scratch_ = cuda_zstd::PooledBuffer(manager, scratch_bytes, timeline_.stream);
}

Wave::~Wave() {
    try {
        // The work uses the buffers.
        backend_.synchronize(timeline_.stream);
    } catch (const std::exception& error) {
        // An error of that work; a destructor cannot throw it.
        say("pool-zstd: {}\n", error.what());
    }
}

unsigned char* Wave::tail() const { return input_.host->data() + input_padding_bytes + used_bytes_; }

std::uint32_t Wave::room_chunks(std::size_t limit_bytes) const {
    const std::size_t most_bytes = std::min(limit_bytes, capacity_bytes_);
    const auto by_bytes =
        input_bytes_ < most_bytes ? static_cast<std::uint32_t>((most_bytes - input_bytes_) / chunk_bytes_) : 0;
    return std::min(by_bytes, most_chunks_ - chunk_count_);
}

void Wave::add(const std::shared_ptr<InputFile>& file, std::uint64_t bytes, WavePart::Position position) {
    auto* const spans = reinterpret_cast<ChunkSpan*>(spans_.host->data());
    const std::uint32_t first = chunk_count_;
    // An empty file is one empty chunk: a frame without content.
    const bool empty_file =
        bytes == 0 && file != nullptr && file->figures.input_bytes == 0 && position == WavePart::Position::last;
    for (std::uint64_t at = 0; at < bytes || (empty_file && chunk_count_ == first); at += chunk_bytes_) {
        const auto part = static_cast<std::uint32_t>(std::min<std::uint64_t>(chunk_bytes_, bytes - at));
        spans[chunk_count_++] = {used_bytes_ + at, part, 0};
    }
    parts_.push_back({file, first, chunk_count_ - first, bytes, position});
    if (file != nullptr) file->figures.input_bytes += bytes;
    input_bytes_ += bytes;
    used_bytes_ += (bytes + chunk_alignment_bytes - 1) / chunk_alignment_bytes * chunk_alignment_bytes;
}

void Wave::copy_in(const Mirrored& buffer, std::size_t bytes) {
    if (buffer.device && bytes != 0)
        backend_.copy_async(buffer.device.data(), buffer.host->data(), bytes, timeline_.stream);
}
void Wave::copy_out(const Mirrored& buffer, std::size_t bytes) {
    if (buffer.device && bytes != 0)
        backend_.copy_async(buffer.host->data(), buffer.device.data(), bytes, timeline_.stream);
}

void Wave::submit(const cuda_zstd::DevicePool& pool) {
    static const cuda_zstd::TraceName name("pool-zstd wave", cuda_zstd::TraceCategory::wave);
    const cuda_zstd::TraceRange range(name, input_bytes_);
    copy_in(input_, used_bytes_ + 2 * input_padding_bytes);
    copy_in(spans_, chunk_count_ * sizeof(ChunkSpan));
    if (chunk_count_ != 0)
        backend_.fill_async(results_.kernel_side(), 0, chunk_count_ * sizeof(ChunkResult), timeline_.stream);
    CompressArgs args;
    args.input = input_.kernel_side() + input_padding_bytes;
    args.chunks = reinterpret_cast<const ChunkSpan*>(spans_.kernel_side());
    args.chunk_count = chunk_count_;
    args.checksum = checksum_ == Checksum::present ? ContentChecksum::present : ContentChecksum::absent;
    args.results = reinterpret_cast<ChunkResult*>(results_.kernel_side());
    args.frame_offsets = reinterpret_cast<std::uint64_t*>(offsets_.kernel_side());
    GatherArgs gather;
    gather.packed = packed_.kernel_side();
    gather.scratch = scan_scratch_.data();
    gather.scratch_bytes = scan_scratch_.size_bytes();
    backend_.record(timeline_.begin, timeline_.stream);
    cuda_zstd::compression::launch_compress(backend_, timeline_.stream, pool, args);
    cuda_zstd::compression::launch_gather(backend_, timeline_.stream, pool, args, gather);
    backend_.record(timeline_.end, timeline_.stream);
    copy_out(offsets_, (chunk_count_ + std::size_t{1}) * sizeof(std::uint64_t));
    copy_out(results_, chunk_count_ * sizeof(ChunkResult));
}

void Wave::collect() {
    static const cuda_zstd::TraceName name("pool-zstd collect", cuda_zstd::TraceCategory::wave);
    const cuda_zstd::TraceRange range(name, input_bytes_);
    wait();
    kernel_ms_ = static_cast<double>(backend_.elapsed_ms(timeline_.begin, timeline_.end));
    // Only now is it known how many bytes there are.
    copy_out(packed_, reinterpret_cast<const std::uint64_t*>(offsets_.host->data())[chunk_count_]);
    wait();
}

std::span<const unsigned char> Wave::frames(const WavePart& part) const {
    const auto* const offsets = reinterpret_cast<const std::uint64_t*>(offsets_.host->data());
    const std::uint64_t begin = offsets[part.first_chunk];
    return {packed_.host->data() + begin, offsets[part.first_chunk + part.chunk_count] - begin};
}
std::span<const cuda_zstd::compression::ChunkResult> Wave::results(const WavePart& part) const {
    return {reinterpret_cast<const ChunkResult*>(results_.host->data()) + part.first_chunk, part.chunk_count};
}
std::span<const cuda_zstd::compression::ChunkSpan> Wave::chunks(const WavePart& part) const {
    return {reinterpret_cast<const ChunkSpan*>(spans_.host->data()) + part.first_chunk, part.chunk_count};
}

std::span<const cuda_zstd::compression::ChunkResult> Wave::results() const {
    return {reinterpret_cast<const ChunkResult*>(results_.host->data()), chunk_count_};
}
std::span<const unsigned char> Wave::chunk_input(std::uint32_t chunk) const {
    const ChunkSpan& span = reinterpret_cast<const ChunkSpan*>(spans_.host->data())[chunk];
    return {input_.host->data() + input_padding_bytes + span.offset, span.bytes};
}
std::span<const unsigned char> Wave::frame(std::uint32_t chunk) const {
    const auto* const offsets = reinterpret_cast<const std::uint64_t*>(offsets_.host->data());
    return {packed_.host->data() + offsets[chunk], offsets[chunk + 1] - offsets[chunk]};
}

void Wave::replace(std::span<const NewFrame> frames) {
    auto* const offsets = reinterpret_cast<std::uint64_t*>(offsets_.host->data());
    auto* const results = reinterpret_cast<ChunkResult*>(results_.host->data());
    unsigned char* const packed = packed_.host->data();
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    for (std::uint32_t chunk = 0; chunk < chunk_count_; ++chunk) {
        const std::uint64_t end = offsets[chunk + 1];
        offsets[chunk] = to;
        if (!frames.empty() && frames.front().chunk == chunk) {
            const NewFrame& frame = frames.front();
            std::memcpy(packed + to, frame.bytes.data(), frame.bytes.size());
            to += frame.bytes.size();
            results[chunk] = frame.result;
            frames = frames.subspan(1);
        } else {
            std::memmove(packed + to, packed + from, end - from);
            to += end - from;
        }
        from = end;
    }
    offsets[chunk_count_] = to;
}

void Wave::clear() {
    parts_.clear();
    chunk_count_ = 0;
    used_bytes_ = 0;
    input_bytes_ = 0;
}

} // namespace pool_zstd
