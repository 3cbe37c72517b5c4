// SPDX-License-Identifier: MIT
#include "pipeline.hpp"

#include "cuda_zstd/host/error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pool_zstd {

using cuda_zstd::BackendKind;
using cuda_zstd::compression::ChunkState;
using cuda_zstd::compression::launch_attempts;
using cuda_zstd::compression::worst_case_scratch_bytes;

namespace {

/// Input bytes of a wave: what was asked for, else what keeps the machine busy while the worst case of `most_waves`
/// fits the pool; whole chunks, and no more than there is.
std::size_t choose_wave_bytes(const Options& options, BackendKind kind, std::uint64_t expected_bytes,
                              std::size_t most_waves) {
    std::size_t bytes = options.wave_bytes;
    if (bytes == 0) {
        bytes = std::size_t{kind == BackendKind::cuda ? 64u : 16u} << 20;
        const std::size_t chunks = options.pool_bytes / worst_case_scratch_bytes(options.chunk_bytes) / most_waves;
        bytes = std::min(bytes, chunks * options.chunk_bytes);
    }
    const std::uint64_t expected =
        std::max<std::uint64_t>(expected_bytes, options.chunk_bytes) + options.chunk_bytes - 1;
    bytes = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, expected));
    return std::max<std::size_t>(bytes / options.chunk_bytes, 1) * options.chunk_bytes;
}

cuda_zstd::DevicePool make_pool(const Options& options, cuda_zstd::MemoryPoolManager& manager) {
    try {
        return cuda_zstd::DevicePool(manager, options.pool_bytes);
    } catch (const std::exception& error) {
        throw Error(fmt::format("--pool {}: {}", human_bytes(options.pool_bytes), error.what()));
    }
}

} // namespace

Pipeline::Pipeline(const Options& options, cuda_zstd::MemoryPoolManager& manager, std::uint64_t expected_bytes,
                   Listener listener)
    : options_(options), manager_(manager), backend_(manager.backend()), listener_(std::move(listener)),
      wave_bytes_(choose_wave_bytes(options, manager.backend().kind(), expected_bytes, most_waves)),
      pool_(make_pool(options, manager)), mender_(options, manager, pool_) {
    // The heap is set up on stream 0; the waves' streams do not wait for that one.
    backend_.synchronize(cudaStream_t{});
}

cuda_zstd::HeapReport Pipeline::pool_report() { return pool_.statistics(cudaStream_t{}); }

Wave& Pipeline::filling() {
    if (filling_ != nullptr) return *filling_;
    if (idle_.empty() && waves_.size() < wave_limit_) {
        try {
            waves_.push_back(
                std::make_unique<Wave>(backend_, manager_, wave_bytes_, options_.chunk_bytes, options_.checksum));
            idle_.push_back(waves_.back().get());
        } catch (const cuda_zstd::out_of_memory& error) {
            // Fewer waves are slower, not wrong.
            wave_limit_ = waves_.size();
            if (waves_.empty())
                throw Error(fmt::format("no memory for a wave of {}: {}", human_bytes(wave_bytes_), error.what()));
        }
    }
    if (idle_.empty()) collect_oldest();
    filling_ = idle_.front();
    idle_.pop_front();
    return *filling_;
}

void Pipeline::submit_filling() {
    if (filling_ == nullptr || filling_->empty()) return;
    Wave* const wave = std::exchange(filling_, nullptr);
    wave->submit(pool_);
    wave->compact(pool_);
    in_flight_.push_back(wave);
}

void Pipeline::add(const std::string& name) {
    std::shared_ptr<InputFile> file;
    try {
        file = std::make_shared<InputFile>(name, options_);
        // In one folder files of the same name would replace each other.
        if (options_.output_folder && !output_names_.insert(file->output_name).second)
            throw Error(fmt::format("{}: not compressed, since {} is already the output of another file", name,
                                    file->output_name));
    } catch (const Error& error) {
        ++failed_files_;
        listener_.on_error(error.what());
        return;
    }
    WavePart::Position position = WavePart::Position::inside;
    while (position == WavePart::Position::inside && !file->failed) {
        Wave& wave = filling();
        const std::size_t room = std::size_t{wave.room_chunks(wave_bytes_)} * options_.chunk_bytes;
        if (room == 0) {
            submit_filling();
            continue;
        }
        std::size_t got = 0;
        try {
            got = file->read(wave.tail(), room);
        } catch (const Error& error) {
            fail(*file, error.what());
            got = 0;
        }
        if (got < room) {
            position = WavePart::Position::last;
            file->descriptor.close();
        }
        wave.add(file, got, position);
    }
}

void Pipeline::finish() {
    submit_filling();
    while (!in_flight_.empty())
        collect_oldest();
    if (output_ != nullptr) {
        output_->complete(nullptr);
        output_.reset();
    }
}

void Pipeline::collect_oldest() {
    Wave* const wave = in_flight_.front();
    wave->collect();
    in_flight_.pop_front();
    kernel_ms_ += wave->kernel_ms();
    mend(*wave);
    write(*wave);
    wave->clear();
    idle_.push_back(wave);
}

void Pipeline::mend(Wave& wave) {
    if (!Mender::is_needed(wave)) return;
    wave_bytes_ = std::clamp(wave.input_bytes() / 2 / options_.chunk_bytes * options_.chunk_bytes,
                             std::uint64_t{options_.chunk_bytes}, std::uint64_t{wave_bytes_});
    // Then the pool is the mender's alone.
    for (Wave* const other : in_flight_)
        other->wait();
    kernel_ms_ += mender_.mend(wave);
}

void Pipeline::write(Wave& wave) {
    for (const WavePart& part : wave.parts()) {
        InputFile& file = *part.file;
        done_bytes_ += part.bytes;
        // Not after the file's result has been told, which may be the last word.
        listener_.on_progress(done_bytes_);
        if (!file.failed) {
            try {
                write_part(wave, part);
            } catch (const Error& error) {
                output_.reset();
                // What all files share cannot be mended.
                if (options_.output) throw;
                fail(file, error.what());
            }
        }
    }
}

void Pipeline::write_part(Wave& wave, const WavePart& part) {
    InputFile& file = *part.file;
    FileFigures& figures = file.figures;
    const auto chunks = wave.chunks(part);
    const auto results = wave.results(part);
    for (std::size_t i = 0; i < results.size(); ++i) {
        const auto& result = results[i];
        figures.sequence_count += result.sequence_count;
        figures.scratch_bytes += result.scratch_bytes;
        figures.worst_case_bytes += worst_case_scratch_bytes(chunks[i].bytes);
        if (result.state == ChunkState::stored) ++figures.stored_chunks;
        if (result.state == ChunkState::no_memory) ++figures.no_memory_chunks;
        if (result.state != ChunkState::no_memory && result.failed_attempts != 0)
            ++(result.failed_attempts < launch_attempts ? figures.retried_chunks : figures.later_chunks);
    }
    figures.chunk_count += results.size();
    if (wave.input_bytes() != 0)
        figures.seconds +=
            wave.kernel_ms() / 1000 * static_cast<double>(part.bytes) / static_cast<double>(wave.input_bytes());

    const auto frames = wave.frames(part);
    figures.output_bytes += frames.size();
    if (output_ == nullptr) output_ = std::make_unique<Output>(file.output_name, file.overwrite);
    output_->write(frames.data(), frames.size());
    if (part.position != WavePart::Position::last) return;
    if (!options_.output) {
        output_->complete(&file.status);
        output_.reset();
    } else if (options_.inputs.size() == 1) {
        output_->complete(file.is_stdin() ? nullptr : &file.status);
        output_.reset();
    }
    listener_.on_file(file);
}

void Pipeline::fail(InputFile& file, const std::string& message) {
    if (!std::exchange(file.failed, true)) ++failed_files_;
    // Frames of this file may already be in the output that all files share.
    if (options_.output && file.figures.output_bytes != 0) throw Error(message);
    if (!options_.output && file.figures.output_bytes != 0) output_.reset();
    listener_.on_error(message);
}

} // namespace pool_zstd
