// SPDX-License-Identifier: MIT
// A wave: the chunks that are compressed together on one stream, and the buffers that they pass through.
//
// Invariant: between `submit` and the end of `collect` the buffers belong to the stream; otherwise to the caller, who
// adds chunks or reads frames. On the host backend staging memory and device memory are the same, and nothing is
// copied.
#pragma once

#include "files.hpp"

#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "kernels/compression/launch.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace pool_zstd {

/// Page-locked memory of a backend.
class PinnedBuffer {
public:
    PinnedBuffer(cuda_zstd::Backend& backend, std::size_t bytes)
        : backend_(backend), data_(backend.allocate_pinned(bytes)) {}
    ~PinnedBuffer() { backend_.free_pinned(data_); }
    PinnedBuffer(const PinnedBuffer&) = delete;
    PinnedBuffer& operator=(const PinnedBuffer&) = delete;
    unsigned char* data() const { return static_cast<unsigned char*>(data_); }

private:
    cuda_zstd::Backend& backend_;
    void* data_;
};

/// The chunks of one file in a wave.
struct WavePart {
    std::shared_ptr<InputFile> file;
    std::uint32_t first_chunk;
    std::uint32_t chunk_count;
    std::uint64_t bytes;
    /// Whether the file ends here.
    enum class Position : std::uint8_t { inside, last } position;
};

class Wave {
public:
    /// Takes its buffers from `manager`. Throws as MemoryPoolManager::allocate.
    Wave(cuda_zstd::Backend& backend, cuda_zstd::MemoryPoolManager& manager, std::size_t capacity_bytes,
         std::uint32_t chunk_bytes, Checksum checksum);
    ~Wave();
    Wave(const Wave&) = delete;
    Wave& operator=(const Wave&) = delete;

    /// Where the next bytes of input go, and how many whole chunks there is room for in a wave of `limit_bytes` or of
    /// its capacity, whichever is less.
    unsigned char* tail() const;
    std::uint32_t room_chunks(std::size_t limit_bytes) const;
    /// Adds the `bytes` bytes at the tail as chunks of one file; null: of none.
    void add(const std::shared_ptr<InputFile>& file, std::uint64_t bytes, WavePart::Position position);
    bool empty() const { return parts_.empty(); }
    std::uint64_t input_bytes() const { return input_bytes_; }

    /// Starts the wave's work on its stream.
    void submit(const cuda_zstd::DevicePool& pool);
    /// Compacts the pool in the order of the wave's stream.
    void compact(cuda_zstd::DevicePool& pool) { pool.compact(timeline_.stream); }
    /// Waits until the kernels have ended; whatever they took from the pool is free then.
    void wait() { backend_.synchronize(timeline_.stream); }
    /// Waits for the work. Afterwards the frames can be read.
    void collect();
    /// Milliseconds of the kernels of the wave that was collected.
    double kernel_ms() const { return kernel_ms_; }

    const std::vector<WavePart>& parts() const { return parts_; }
    std::span<const unsigned char> frames(const WavePart& part) const;
    std::span<const cuda_zstd::compression::ChunkResult> results(const WavePart& part) const;
    std::span<const cuda_zstd::compression::ChunkSpan> chunks(const WavePart& part) const;

    /// Of all chunks of the wave that was collected.
    std::span<const cuda_zstd::compression::ChunkResult> results() const;
    std::span<const unsigned char> chunk_input(std::uint32_t chunk) const;
    std::span<const unsigned char> frame(std::uint32_t chunk) const;
    /// A frame for a chunk of this wave that was made elsewhere; it is not longer than the one that is here.
    struct NewFrame {
        std::uint32_t chunk;
        cuda_zstd::compression::ChunkResult result;
        std::vector<unsigned char> bytes;
    };
    /// Puts the frames, which are in the order of their chunks, in the place of those that are here. Takes the time of
    /// one copy of all frames.
    void replace(std::span<const NewFrame> frames);

    /// Makes the wave empty again.
    void clear();

private:
    using ChunkSpan = cuda_zstd::compression::ChunkSpan;
    using ChunkResult = cuda_zstd::compression::ChunkResult;

    /// The wave's stream and the events around its kernels.
    struct Timeline {
        explicit Timeline(cuda_zstd::Backend& of_backend);
        ~Timeline();
        Timeline(const Timeline&) = delete;
        Timeline& operator=(const Timeline&) = delete;
        cuda_zstd::Backend& backend;
        cudaStream_t stream;
        cuda_zstd::BackendEvent begin;
        cuda_zstd::BackendEvent end;
    };
    /// A buffer that the host fills or reads, and the kernels' counterpart of it.
    struct Mirrored {
        Mirrored(Wave& wave, std::size_t bytes);
        std::unique_ptr<PinnedBuffer> host;
        cuda_zstd::PooledBuffer device; ///< empty on the host backend
        unsigned char* kernel_side() const { return device ? device.as<unsigned char>() : host->data(); }
    };
    void copy_in(const Mirrored& buffer, std::size_t bytes);
    void copy_out(const Mirrored& buffer, std::size_t bytes);

    cuda_zstd::Backend& backend_;
    cuda_zstd::MemoryPoolManager& manager_;
    std::size_t capacity_bytes_;
    std::uint32_t chunk_bytes_;
    std::uint32_t most_chunks_;
    Checksum checksum_;
    /// Before the buffers, which are given back on its stream.
    Timeline timeline_;
    Mirrored input_;
    Mirrored packed_;
    Mirrored spans_;
    Mirrored results_;
    Mirrored offsets_;
    cuda_zstd::PooledBuffer scan_scratch_;
    std::vector<WavePart> parts_;
    std::uint32_t chunk_count_ = 0;
    std::size_t used_bytes_ = 0;
    std::uint64_t input_bytes_ = 0;
    double kernel_ms_ = 0;
};

} // namespace pool_zstd
