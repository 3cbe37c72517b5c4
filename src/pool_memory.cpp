// SPDX-License-Identifier: MIT
#include "pool_memory.hpp"

#include "cuda_zstd/host/error.hpp"

#include <algorithm>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t largest_chunk_bytes = std::size_t{32} << 20;

std::size_t chunk_bytes_for(std::size_t max_bytes) {
    std::size_t chunk_bytes = largest_chunk_bytes;
    while (chunk_bytes > pool_unit_bytes && chunk_bytes > max_bytes / 64)
        chunk_bytes /= 2;
    return chunk_bytes;
}

} // namespace

GrowingLayout GrowingLayout::of(std::size_t max_bytes, std::size_t chunk_bytes, unsigned processors) {
    if (chunk_bytes == 0) chunk_bytes = chunk_bytes_for(max_bytes);
    if (chunk_bytes % pool_unit_bytes != 0 || !is_power_of_two(chunk_bytes) || chunk_bytes > (std::size_t{1} << 30))
        throw configuration_error("a device pool with chunks of " + std::to_string(chunk_bytes) +
                                  " bytes: expected 0 or a power of two from 2 MiB to 1 GiB");
    GrowingLayout layout;
    layout.chunk_bytes = chunk_bytes;
    layout.heap = HeapLayout::for_arena(max_bytes, processors);
    // A slab lies in one chunk, so that chunks can be cleared one by one.
    while ((std::size_t{page_bytes} << layout.heap.slab_log2_pages) > chunk_bytes)
        --layout.heap.slab_log2_pages;
    const std::size_t metadata_bytes = round_up(layout.heap.metadata_bytes, pool_unit_bytes);
    const std::size_t room_bytes = max_bytes > metadata_bytes ? max_bytes - metadata_bytes : 0;
    const std::size_t chunks = std::min(room_bytes, layout.heap.payload_bytes()) / chunk_bytes;
    if (chunks == 0)
        throw configuration_error("a device pool with a maximum of " + std::to_string(max_bytes) +
                                  " bytes has no room for metadata and one chunk of " + std::to_string(chunk_bytes) +
                                  " bytes");
    layout.chunk_count = static_cast<std::uint32_t>(chunks);
    layout.heap.page_count = layout.chunk_count * layout.chunk_pages();
    layout.heap.pages_offset = round_up(layout.heap.metadata_bytes, chunk_bytes);
    return layout;
}

PoolMemory::PoolMemory(ArenaPool& arenas, const GrowingLayout& layout)
    : arenas_(arenas), source_(arenas.source()), layout_(layout), mapped_(layout.chunk_count, false) {
    if (!source_->grows())
        throw configuration_error(std::string("a device pool that grows needs an arena source that maps piece by "
                                              "piece; ") +
                                  source_->name() + " does not");
    range_ = source_->reserve(offset_of(layout.chunk_count));
    try {
        if (map_piece(0, needed_metadata_bytes(0))) metadata_bytes_ = needed_metadata_bytes(0);
    } catch (...) {
        source_->release(range_);
        throw;
    }
    if (metadata_bytes_ != 0) return;
    source_->release(range_);
    throw out_of_memory("no memory for the metadata of a device pool: " + last_failure_);
}

PoolMemory::~PoolMemory() {
    for (std::uint32_t chunk = 0; chunk < layout_.chunk_count; ++chunk)
        if (mapped_[chunk]) source_->unmap(range_, offset_of(chunk), layout_.chunk_bytes);
    const std::size_t chunk_bytes = mapped_chunks_ * layout_.chunk_bytes;
    shrink_metadata(needed_metadata_bytes(0));
    source_->unmap(range_, 0, metadata_bytes_);
    arenas_.repay(metadata_bytes_ + chunk_bytes);
    source_->release(range_);
}

std::uint32_t PoolMemory::extent_pages() const {
    std::uint32_t end = layout_.chunk_count;
    while (end != 0 && !mapped_[end - 1])
        --end;
    return end * layout_.chunk_pages();
}

/// Metadata of a heap whose chunks below `chunks` are mapped, in the source's units.
std::size_t PoolMemory::needed_metadata_bytes(std::uint32_t chunks) const {
    const HeapLayout& heap = layout_.heap;
    const std::size_t slot_bits_bytes =
        std::size_t{chunks} * layout_.chunk_pages() * slot_words_per_page * sizeof(std::uint32_t);
    // What a hardened build keeps lies behind the slot bits.
    const std::size_t bytes = Hardening::any ? heap.metadata_bytes : heap.slot_bits_offset + slot_bits_bytes;
    return round_up(bytes, pool_unit_bytes);
}

bool PoolMemory::map_piece(std::size_t offset, std::size_t bytes) {
    if (!arenas_.lend(bytes)) {
        last_failure_ = "the manager's limit is reached";
        return false;
    }
    try {
        source_->map(range_, offset, bytes);
        return true;
    } catch (const out_of_memory& error) {
        arenas_.repay(bytes);
        last_failure_ = error.what();
        return false;
    } catch (...) {
        arenas_.repay(bytes);
        throw;
    }
}

std::optional<std::uint32_t> PoolMemory::map_next() {
    if (mapped_chunks_ == layout_.chunk_count) return std::nullopt;
    std::uint32_t chunk = 0;
    while (mapped_[chunk])
        ++chunk;
    const std::size_t before_bytes = metadata_bytes_;
    try {
        // The rest of the metadata is mapped in pieces of one unit, so that it can be given back from the end.
        bool is_there = true;
        while (is_there && metadata_bytes_ < needed_metadata_bytes(chunk + 1)) {
            is_there = map_piece(metadata_bytes_, pool_unit_bytes);
            if (is_there) metadata_bytes_ += pool_unit_bytes;
        }
        if (is_there && map_piece(offset_of(chunk), layout_.chunk_bytes)) {
            mapped_[chunk] = true;
            ++mapped_chunks_;
            return chunk;
        }
    } catch (...) {
        shrink_metadata(before_bytes);
        throw;
    }
    shrink_metadata(before_bytes);
    return std::nullopt;
}

bool PoolMemory::unmap(std::uint32_t chunk) noexcept {
    if (!source_->try_unmap(range_, offset_of(chunk), layout_.chunk_bytes)) return false;
    mapped_[chunk] = false;
    --mapped_chunks_;
    arenas_.repay(layout_.chunk_bytes);
    return true;
}

void PoolMemory::shrink_metadata(std::size_t bytes) noexcept {
    while (metadata_bytes_ > bytes) {
        metadata_bytes_ -= pool_unit_bytes;
        source_->unmap(range_, metadata_bytes_, pool_unit_bytes);
        arenas_.repay(pool_unit_bytes);
    }
}

} // namespace cuda_zstd::detail
