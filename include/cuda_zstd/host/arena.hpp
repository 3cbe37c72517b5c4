// SPDX-License-Identifier: MIT
// The arenas: contiguous ranges of addresses, and the pool of the blocks in them.
//
// Invariant: an arena's blocks cover its whole range; the unmapped ones among them are whole chunks, the others are
// exactly what is mapped. Mapped bytes never exceed the limit. Memory is unmapped only when it is settled.
// Chunks are exchanged where the source can: at the limit, and always with Growth::exact, free chunks that lie apart
// are unmapped and as many mapped in one stretch, so that fragmentation costs addresses instead of memory.
#pragma once

#include "cuda_zstd/host/arena_source.hpp"
#include "cuda_zstd/host/block_pool.hpp"
#include "cuda_zstd/host/quick_mutex.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace cuda_zstd::detail {

/// The source that the options name. Throws `configuration_error` where the backend cannot use it.
std::shared_ptr<ArenaSource> source_for(const PoolOptions& options, BackendKind backend);

/// The unit of limits, of arenas, and the smallest chunk.
inline constexpr std::size_t pool_unit_bytes = std::size_t{2} << 20;

struct Arena : PoolRegion {
    AddressRange range;
    /// What is mapped and unmapped as one piece.
    std::size_t chunk_bytes = 0;
};

struct ArenaFigures {
    FreeFigures free;
    std::size_t capacity_bytes = 0;
    std::size_t peak_capacity_bytes = 0;
    std::uint64_t growths = 0;
    std::uint64_t returns = 0;
};

/// Large blocks, and the memory of the smaller pools. Members may be called from any thread.
class ArenaPool final : public BlockPool {
public:
    ArenaPool(const PoolOptions& options, StreamOrder& order, std::shared_ptr<ArenaSource> source);
    /// Work that uses the memory must be done.
    ~ArenaPool() override;

    Taken take(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id, Effort effort) override;
    /// O(1) over all frees, and waits for no lock: who finds it free merges what was freed side by side.
    void give(Block& block, Dependencies dependencies) override;
    void give(std::span<Block* const> blocks, const TicketRef& ticket) noexcept override;

    /// Maps until `bytes` are free. Throws `out_of_memory`.
    void reserve(std::size_t bytes);
    /// Waits for what is pending now, on the host, with no lock held.
    void wait_on_host();
    /// Unmaps settled free chunks, least recently used first, until the capacity is at most `keep_bytes`.
    void trim(std::size_t keep_bytes);
    /// Counts `bytes` as mapped that somebody else maps from the source: below the limit, for which free chunks are
    /// unmapped if need be. False, with nothing changed, when there is no room.
    bool lend(std::size_t bytes);
    void repay(std::size_t bytes);
    const std::shared_ptr<ArenaSource>& source() const noexcept { return source_; }
    /// All mapped memory becomes free. Work that uses it must be done.
    void reset();

    std::size_t limit_bytes() const noexcept { return limit_bytes_; }
    /// What can be mapped at most: the limit or the machine's memory.
    std::size_t most_bytes() const noexcept { return most_bytes_; }
    ArenaFigures figures() const;
    void for_each_free(const std::function<void(const Block&)>& visit) const;
    /// Every arena, with the first of the blocks that cover it.
    void for_each_arena(const std::function<void(const AddressRange&, const Block* first)>& visit) const;
    /// What the source said when it last failed; empty if it never did.
    std::string last_failure() const;
    /// How often it failed: a pool that is only at its limit does not count here.
    std::uint64_t source_failures() const noexcept { return source_failures_.load(std::memory_order_relaxed); }
    std::string check() const;

private:
    /// The mutex, with what was freed meanwhile in the heap.
    class Hold {
    public:
        explicit Hold(const ArenaPool& pool) : lock_(pool.mutex_) {
            pool.heap_.receive([](const Block&) {});
        }

    private:
        std::lock_guard<QuickMutex> lock_;
    };
    void merge(Block& block) noexcept;
    bool grow(std::size_t bytes, std::size_t alignment);
    void note_failure(const out_of_memory& error);
    bool map_for(std::size_t bytes, std::size_t alignment);
    std::size_t wanted_growth_bytes(std::size_t needed_bytes) const;
    bool grow_in(Arena& arena, std::size_t bytes, std::size_t alignment);
    Arena* add_arena(std::size_t bytes);
    bool map_more(std::size_t bytes);
    std::size_t map_chunks(Arena& arena, std::byte* from, std::size_t bytes, std::size_t needed_bytes);
    void make_free(Arena& arena, Block& unmapped, std::size_t bytes);
    std::size_t unmap_settled(std::size_t bytes);
    /// What may still be mapped.
    std::size_t room_bytes() const noexcept { return most_bytes_ - capacity_bytes_ - lent_bytes_; }
    std::size_t unmap(Block& block, std::size_t most_bytes);
    void release_empty_arenas();

    const PoolOptions options_;
    StreamOrder& order_;
    const std::shared_ptr<ArenaSource> source_;
    std::size_t limit_bytes_ = 0;
    std::size_t chunk_bytes_ = 0;
    /// The limit, or what the machine has where that is less, in whole chunks.
    std::size_t most_bytes_ = 0;
    mutable QuickMutex mutex_;
    /// Receiving and filing what was freed changes nothing that can be seen.
    mutable BlockHeap heap_;
    std::vector<std::unique_ptr<Arena>> arenas_;
    std::size_t capacity_bytes_ = 0;
    std::size_t lent_bytes_ = 0;
    std::size_t peak_capacity_bytes_ = 0; ///< with what was lent
    std::uint64_t growths_ = 0;
    std::uint64_t returns_ = 0;
    bool source_is_short_ = false; ///< it failed, and nothing was given back to it since
    std::string last_failure_;
    std::atomic<std::uint64_t> source_failures_{0};
};

} // namespace cuda_zstd::detail
