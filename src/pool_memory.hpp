// SPDX-License-Identifier: MIT
// The memory of a device pool that grows: addresses for its maximum, and chunks of memory wherever they are needed.
//
// Invariant: the range holds the metadata and then, from a multiple of the chunk's size on, the pages. A chunk is
// mapped or not, in any order, so there may be holes. Of the metadata, a first part is mapped that reaches far enough
// for every mapped chunk: all but the slot bits, and these as far as the last chunk that was ever mapped. What is
// mapped is lent by the manager's arenas, so that its limit holds. Calls come one at a time.
#pragma once

#include "cuda_zstd/host/arena.hpp"
#include "cuda_zstd/host/arena_source.hpp"
#include "kernels/heap_launch.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cuda_zstd::detail {

/// How a pool that may grow to `max_bytes`, metadata among them, is laid out.
struct GrowingLayout {
    HeapLayout heap; ///< of the maximum
    std::size_t chunk_bytes = 0;
    std::uint32_t chunk_count = 0;

    std::uint32_t chunk_pages() const { return static_cast<std::uint32_t>(chunk_bytes >> page_shift); }

    /// `chunk_bytes` 0: 32 MiB, less where that would be more than a 64th of the maximum, at least 2 MiB. Throws
    /// `configuration_error`.
    static GrowingLayout of(std::size_t max_bytes, std::size_t chunk_bytes, unsigned processors);
};

class PoolMemory {
public:
    /// Reserves addresses and maps the metadata that an empty heap needs. Throws `out_of_memory`, and
    /// `configuration_error` where the source cannot map piecewise.
    PoolMemory(ArenaPool& arenas, const GrowingLayout& layout);
    /// Gives everything back. Work that uses it must be done.
    ~PoolMemory();
    PoolMemory(const PoolMemory&) = delete;
    PoolMemory& operator=(const PoolMemory&) = delete;

    std::byte* base() const noexcept { return range_.base; }
    const GrowingLayout& layout() const noexcept { return layout_; }
    bool is_mapped(std::uint32_t chunk) const { return mapped_[chunk]; }
    std::uint32_t mapped_chunks() const noexcept { return mapped_chunks_; }
    /// All of it, metadata among them.
    std::size_t mapped_bytes() const noexcept { return metadata_bytes_ + mapped_chunks_ * layout_.chunk_bytes; }
    std::size_t metadata_bytes() const noexcept { return metadata_bytes_; }
    /// Behind the last mapped chunk.
    std::uint32_t extent_pages() const;

    /// Maps the first chunk that is not, and the metadata that it needs. None at the maximum, and where there is no
    /// memory: then last_failure() says so, and nothing has changed.
    std::optional<std::uint32_t> map_next();
    /// False where the driver refused: then the chunk is still mapped.
    bool unmap(std::uint32_t chunk) noexcept;
    /// Unmaps metadata behind `bytes`, which no mapped chunk may need.
    void shrink_metadata(std::size_t bytes) noexcept;
    const std::string& last_failure() const noexcept { return last_failure_; }

private:
    std::size_t needed_metadata_bytes(std::uint32_t chunks) const;
    bool map_piece(std::size_t offset, std::size_t bytes);
    std::size_t offset_of(std::uint32_t chunk) const {
        return layout_.heap.pages_offset + std::size_t{chunk} * layout_.chunk_bytes;
    }

    ArenaPool& arenas_;
    const std::shared_ptr<ArenaSource> source_;
    const GrowingLayout layout_;
    AddressRange range_;
    std::vector<bool> mapped_;
    std::uint32_t mapped_chunks_ = 0;
    std::size_t metadata_bytes_ = 0; ///< mapped
    std::string last_failure_;
};

} // namespace cuda_zstd::detail
