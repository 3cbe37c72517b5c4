// SPDX-License-Identifier: MIT
// The small pool: slots of equal size in slabs, a size class each.
//
// Invariant: every slot is either live or in exactly one list of its class: the settled slots, or those of the stream
// that it was freed on, in the order of the frees. A slab's memory goes back with the tickets of all its slots.
// Streams are spread over shards, so that threads with streams of their own do not meet at one mutex.
#pragma once

#include "cuda_zstd/host/block_pool.hpp"
#include "cuda_zstd/host/slab_map.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace cuda_zstd::detail {

/// A slot on its way back.
struct GivenSlot {
    std::byte* ptr = nullptr;
    Slab* slab = nullptr;
};

struct FreeSlot {
    std::byte* ptr = nullptr;
    Slab* slab = nullptr;
    TicketRef ticket;
    /// Of the free.
    std::uint64_t time_ns = 0;
};

/// A slot that is taken; `slab` is null when there is none.
struct TakenSlot {
    std::byte* ptr = nullptr;
    Slab* slab = nullptr;
    Dependencies dependencies;
    Origin origin = Origin::own;
};

struct alignas(64) SizeClass {
    std::mutex mutex;
    std::size_t slot_bytes = 0;
    std::vector<FreeSlot> settled;
    std::unordered_map<std::uint64_t, std::deque<FreeSlot>> by_stream;
    SlabList slabs;
    std::size_t empty_slabs = 0;
};

/// How much memory a class takes at once.
enum class SlabSize : std::uint8_t {
    /// For 32 slots, but 64 KiB to 1 MiB.
    usual,
    /// The whole slots that make up 64 KiB: a class that is used little holds little.
    smallest,
};

/// Members may be called from any thread.
class SmallPool {
public:
    /// For requests below `limit_bytes`.
    SmallPool(std::size_t limit_bytes, StreamOrder& order, BlockPool& parent, SlabMap& slabs,
              SlabSize slab_size = SlabSize::usual);

    /// The slot size that serves a request: a multiple of the granule, steps of 256 B to 1 KiB, then four a doubling.
    static std::size_t slot_bytes(std::size_t bytes) noexcept;
    static unsigned class_of(std::size_t bytes) noexcept {
        const std::size_t granules = ((bytes == 0 ? 1 : bytes) - 1) / granule_bytes;
        if (granules < 4) return static_cast<unsigned>(granules);
        const unsigned doubling = static_cast<unsigned>(std::bit_width(granules)) - 3;
        return 4 * doubling + static_cast<unsigned>(granules >> doubling);
    }
    static std::size_t size_of_class(unsigned index) noexcept;

    TakenSlot take(std::size_t bytes, const StreamRef& stream, Effort effort);
    /// Frees slots behind one ticket, or none. One lock for those in a row that are of one class and shard. O(1) each:
    /// slabs that become empty are left to give_back_surplus(). How many of them, from the first on: without memory for
    /// its lists not all, and the others stay the caller's.
    [[nodiscard]] std::size_t give(std::span<const GivenSlot> slots, const TicketRef& ticket) noexcept;
    /// Returns most empty slabs to the parent where there are many; whether there were. For who misses.
    bool give_back_surplus();
    /// Returns every slab without live slots to the parent.
    void flush();
    /// Waits for what is pending now, on the host, with no lock held.
    void wait_on_host();
    /// Forgets all slabs, whose records are absent, or will be used no more; the parent is reset by the caller.
    void clear();

    FreeFigures figures() const;
    void
    for_each_free(const std::function<void(std::byte* ptr, std::size_t bytes, std::uint64_t time_ns)>& visit) const;
    std::string check() const;

private:
    static constexpr unsigned shard_count = 8;
    using Shard = std::vector<std::unique_ptr<SizeClass>>;

    TakenSlot take_from(SizeClass& size_class, const StreamRef& stream, Effort effort);
    bool settle(SizeClass& size_class);
    static bool has_surplus(const SizeClass& size_class) noexcept;
    std::size_t next_slab_bytes(const SizeClass& size_class) const noexcept;
    bool add_slab(SizeClass& size_class, const StreamRef& stream, Effort effort);
    void list_slots(SizeClass& size_class, Slab& slab, const TicketRef& ticket);
    void release_empty(SizeClass& size_class, std::size_t keep);

    StreamOrder& order_;
    BlockPool& parent_;
    SlabMap& slabs_;
    const SlabSize slab_size_;
    std::array<Shard, shard_count> shards_;
    std::atomic<bool> surplus_{false};
};

} // namespace cuda_zstd::detail
