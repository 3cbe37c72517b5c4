// SPDX-License-Identifier: MIT
#include "cuda_zstd/device/handle_table.hpp"

#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"
#include "cuda_zstd_memory_pool.h"
#include "kernels/audit_launch.hpp"
#include "kernels/relocate_launch.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t cell_count = static_cast<std::size_t>(HandleCell::count);
/// A pool of fixed size has no chunks of its own: what a trim of the manager's arenas works with at least.
constexpr std::size_t fixed_chunk_bytes = std::size_t{2} << 20;

/// Memory of the manager's for the time of a call.
class Scratch {
public:
    Scratch(MemoryPoolManager& manager, std::size_t bytes, cudaStream_t stream)
        : manager_(manager), stream_(stream), memory_(manager.allocate(bytes, stream)) {}
    ~Scratch() {
        try {
            manager_.deallocate(memory_, stream_);
        } catch (...) {
            // The manager lists the block as live: there is nobody else to tell.
        }
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    template <class T>
    T* as(std::size_t offset_bytes = 0) const {
        return reinterpret_cast<T*>(static_cast<std::byte*>(memory_) + offset_bytes);
    }

private:
    MemoryPoolManager& manager_;
    cudaStream_t stream_;
    void* memory_;
};

/// Pinned words for the time of a call.
class PinnedWords {
public:
    PinnedWords(Backend& backend, std::size_t count)
        : backend_(backend),
          words_(static_cast<std::uint32_t*>(backend.allocate_pinned(count * sizeof(std::uint32_t)))) {
        std::fill_n(words_, count, 0u);
    }
    ~PinnedWords() { backend_.free_pinned(words_); }
    PinnedWords(const PinnedWords&) = delete;
    PinnedWords& operator=(const PinnedWords&) = delete;
    std::uint32_t* get() const { return words_; }
    std::uint32_t& operator[](std::size_t at) const { return words_[at]; }

private:
    Backend& backend_;
    std::uint32_t* words_;
};

/// The chunks that shall not be cleared: those that hold most, with room for all that lives, a quarter more, and a page
/// for each size class.
std::vector<bool> chunks_to_keep(const std::uint32_t* live_units, std::uint32_t chunk_count, std::size_t chunk_bytes) {
    std::vector<std::uint32_t> order(chunk_count);
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t left, std::uint32_t right) { return live_units[left] > live_units[right]; });
    std::uint64_t live_bytes = 0;
    for (std::uint32_t chunk = 0; chunk < chunk_count; ++chunk)
        live_bytes += std::uint64_t{live_units[chunk]} * min_slot_bytes;
    const std::uint64_t wanted_bytes = live_bytes + live_bytes / 4 + std::uint64_t{size_class_count} * page_bytes;
    const std::uint64_t keep = live_bytes == 0 ? 0 : (wanted_bytes + chunk_bytes - 1) / chunk_bytes;
    std::vector<bool> kept(chunk_count, false);
    for (std::uint32_t at = 0; at < std::min<std::uint64_t>(keep, chunk_count); ++at)
        kept[order[at]] = true;
    return kept;
}

} // namespace

struct __attribute__((visibility("hidden"))) HandleTable::State {
    DevicePool& pool;
    MemoryPoolManager& manager;
    Backend& backend;
    cudaStream_t stream;
    void* memory = nullptr; ///< the entries, and behind them the cells

    State(DevicePool& of, std::size_t bytes, cudaStream_t on)
        : pool(of), manager(of.manager()), backend(manager.backend()), stream(on) {
        memory = manager.allocate(bytes, stream);
        try {
            backend.fill_async(memory, 0, bytes, stream);
        } catch (...) {
            release();
            throw;
        }
    }
    ~State() { release(); }
    void release() noexcept {
        try {
            manager.deallocate(memory, stream);
        } catch (...) {
            // As above.
        }
    }
};

HandleTable::HandleTable(DevicePool& pool, std::uint32_t capacity, cudaStream_t stream) : capacity_(capacity) {
    if (capacity == 0) throw configuration_error("a table of 0 handles: expected at least 1");
    const std::size_t entry_bytes = std::size_t{capacity} * sizeof(std::uint64_t);
    state_ = std::make_unique<State>(pool, entry_bytes + cell_count * sizeof(std::uint32_t), stream);
    arena_ = pool.arena();
    layout_ = pool.layout();
    entries_ = state_->memory;
    cells_ = static_cast<std::byte*>(state_->memory) + entry_bytes;
}

HandleTable::~HandleTable() = default;

RelocationReport HandleTable::relocate(cudaStream_t stream) {
    static const TraceName name("relocate", TraceCategory::compact);
    const TraceRange range(name, capacity_);
    Backend& backend = state_->backend;
    if (backend.is_capturing(stream))
        throw usage_error("relocate on a stream that is being captured into a graph: which chunks are to be cleared is "
                          "decided by the host");
    const std::size_t chunk_bytes = state_->pool.chunk_bytes() != 0 ? state_->pool.chunk_bytes() : fixed_chunk_bytes;
    const ChunkedHeap heap{{arena_, layout_}, static_cast<std::uint32_t>(chunk_bytes >> page_shift)};
    const HandleMemory table{static_cast<Atom<std::uint64_t>*>(entries_), static_cast<Atom<std::uint32_t>*>(cells_),
                             capacity_};
    const std::uint32_t chunk_count = (layout_.page_count + heap.chunk_pages - 1) / heap.chunk_pages;
    const std::size_t count_bytes = chunk_count * sizeof(std::uint32_t);
    const std::size_t held_offset = round_up<std::size_t>(count_bytes, 128);
    const Scratch work(state_->manager, held_offset + layout_.page_words() * sizeof(std::uint32_t), stream);
    const PinnedWords words(backend, std::max<std::size_t>(chunk_count, cell_count));
    try {
        launch_quarantine_release(backend, stream, heap.heap);
        backend.fill_async(work.as<void>(), 0, count_bytes, stream);
        launch_chunk_survey(backend, stream, heap, work.as<Atom<std::uint32_t>>());
        backend.copy_async(words.get(), work.as<void>(), count_bytes, stream);
        backend.synchronize(stream);
        const std::vector<bool> kept = chunks_to_keep(words.get(), chunk_count, chunk_bytes);
        RelocationReport report;
        std::fill_n(words.get(), chunk_count, 0u);
        for (std::uint32_t chunk = 0; chunk < chunk_count; ++chunk)
            if (!kept[chunk]) {
                words[chunk / 32] |= 1u << (chunk % 32);
                ++report.chosen_chunks;
            }
        if (report.chosen_chunks == 0) return report;
        backend.copy_async(work.as<void>(), words.get(), count_bytes, stream);
        auto* const moved = table.cells + static_cast<std::size_t>(HandleCell::moved_blocks);
        backend.fill_async(moved, 0, 3 * sizeof(std::uint32_t), stream);
        launch_relocation(backend, stream, heap, table, work.as<const Atom<std::uint32_t>>(),
                          work.as<Atom<std::uint32_t>>(held_offset));
        backend.synchronize(stream);
        backend.copy_async(words.get(), moved, 3 * sizeof(std::uint32_t), stream);
        backend.synchronize(stream);
        report.moved_blocks = words[0];
        report.moved_bytes = std::uint64_t{words[1]} * min_slot_bytes;
        report.kept_blocks = words[2];
        return report;
    } catch (...) {
        try {
            backend.synchronize(stream); // a copy may still write to the pinned words
        } catch (...) {
            // Then the stream runs nothing any more.
        }
        throw;
    }
}

HandleFaults HandleTable::faults(cudaStream_t stream) {
    Backend& backend = state_->backend;
    const PinnedWords words(backend, cell_count);
    backend.copy_async(words.get(), cells_, 2 * sizeof(std::uint32_t), stream);
    backend.synchronize(stream);
    return {words[static_cast<std::size_t>(HandleCell::stale_uses)],
            words[static_cast<std::size_t>(HandleCell::refused)]};
}

} // namespace cuda_zstd
