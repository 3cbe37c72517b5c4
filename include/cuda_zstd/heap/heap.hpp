// SPDX-License-Identifier: MIT
// The device heap: allocate and deallocate for any set of lanes with any mixture of sizes.
//
// Invariant: a block of up to 32 KiB is one slot of a slab, a larger one is a run of whole pages; the bytes of two live
// blocks never overlap. The heap is a view: pointers into one arena, copied by value, owning nothing.
//
// The common path is inline and works on the view's own pointers, which a kernel has in its parameters. All that is
// rare is reached through a copy of SlabSupply that lies in the arena: a member function called out of line takes
// `this`, and were that the view, every thread would first copy it to its stack.
//
// Cost of the common case, for a group of lanes of one warp that want one size class: one load (cursor), one atomic for
// the group (credits), one atomic for each word of slot bits, both words at once. Free: one load a lane, one atomic for
// each word of bits and one for each slab.
//
// Ordering: what a thread did to a block before it freed it is visible to whoever gets those bytes next.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/size_class.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/heap/layout.hpp"
#include "cuda_zstd/heap/supply.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// The cells of the control block, each on a line of its own.
enum class ControlCell : unsigned {
    free_pages,
    least_free_pages,
    became_empty,
    reclaimed,
    epoch,
    failures,
    first_failed_bytes,
    invalid_frees,
    double_frees,
    mapped_pages,      ///< pages that memory is behind: all, but for a heap that grows
    peak_pages_before, ///< the most that were in use before the heap last changed its size
    sweep_mark,        ///< became_empty when the sweep began that is not yet through
    sweep_at,          ///< how far it is
    drain_words,       ///< what searches may still pass before a heap that drains ends to
};

template <class Env>
class Heap {
public:
    template <class T>
    using atom = typename Env::template atom<T>;
    using Supply = SlabSupply<Env>;

    Heap() = default;

    /// The heap whose arena begins at `arena` (aligned to a page) with this layout. Takes no memory and writes none.
    static CUDA_ZSTD_HD Heap over(void* arena, const HeapLayout& layout) {
        char* const base = static_cast<char*>(arena);
        Heap heap;
        heap.supply_ = reinterpret_cast<const Supply*>(base + layout.control_offset + supply_copy_offset);
        heap.control_ = base + layout.control_offset;
        heap.pages_base_ = base + layout.pages_offset;
        heap.slabs_ = {reinterpret_cast<atom<std::uint64_t>*>(base + layout.slab_words_offset),
                       reinterpret_cast<atom<std::uint32_t>*>(base + layout.slot_bits_offset)};
        heap.entries_ = reinterpret_cast<atom<std::uint32_t>*>(base + layout.page_entries_offset);
        heap.stations_ = {base + layout.stations_offset, layout.stations, layout.station_scale,
                          base + layout.shared_cells_offset};
        heap.page_count_ = layout.page_count;
        return heap;
    }

    /// One block of at least `bytes` for each of the lanes `lanes`, which call together, each with its own size;
    /// aligned to `alignment` (a power of two up to 64 KiB). Null comes with the reason in `status`.
    CUDA_ZSTD_HD void* allocate(Env& env, LaneMask lanes, std::size_t bytes, std::uint32_t alignment,
                                Status& status) const {
        const unsigned kind = kind_of(bytes, alignment);
        LaneMask group = env.match_any(lanes, kind);
        void* block = nullptr;
        status = Status::invalid;
        bool waiting = kind < size_class_count;
        if (kind == run_kind) {
            const std::uint32_t page = out_of_line(&Supply::claim_run_rarely)(supply_, env, bytes);
            status = page == no_page ? Status::full : page == no_page_now ? Status::contended : Status::ok;
            if (status == Status::ok) block = pages_base_ + (std::size_t{page} << page_shift);
        }
        if (!waiting && block == nullptr) note_failures(env, control_, bytes, 1);
        for (LaneMask left = lanes; left != 0; left = env.ballot(lanes, waiting)) {
            group &= left;
            // The first lane of a group reserves for all.
            const unsigned leader = waiting ? lowest_bit(group) : env.lane();
            const unsigned rank = popcount(group & low_bits(env.lane()));
            Reserved got;
            if (waiting && rank == 0) got = reserve_slots(env, kind, popcount(group));
            got.raw = env.shfl(lanes, got.raw, leader);
            // The bits lie in one word or in two that are neighbors: the group's first lanes set them, a word each, at
            // once.
            const std::uint32_t slot = got.start() + rank;
            std::uint32_t seen = 0;
            if (waiting && rank < got.words()) seen = set_bits(env, got, rank);
            seen = env.shfl(lanes, seen, rank < 32u - got.start() % 32u ? leader : lowest_bit(group & (group - 1u)));
            env.sync(lanes); // a shuffle orders no memory: what these lanes acquired holds for all from here
            if (!waiting || (rank >= got.count() && got.count() != 0)) continue;
            waiting = false;
            if (got.count() == 0) {
                status = static_cast<Status>(got.start());
                if (rank == 0) note_failures(env, control_, bytes, popcount(group));
                continue;
            }
            std::uint32_t found = slot;
            if ((seen >> (slot % 32u) & 1u) != 0)
                found = out_of_line(&Supply::find_slot_rarely)(supply_, env, got.slab(), got.start(), rank);
            if (found == no_slot) {
                status = Status::contended;
                note_failures(env, control_, bytes, 1);
                continue;
            }
            status = Status::ok;
            block = pages_base_ + (std::size_t{got.slab()} << page_shift) + std::size_t{found} * slot_bytes_of(kind);
        }
        return block;
    }

    /// Gives back one block for each of the lanes `lanes`, which call together. Null is ignored. Whatever is wrong with
    /// a pointer is returned and counted, and changes nothing.
    CUDA_ZSTD_HD Status deallocate(Env& env, LaneMask lanes, void* block) const {
        Place place{Status::ok, no_page, no_slot, {0}};
        if (block != nullptr) {
            place = locate(env, block);
            if (place.status == Status::ok && place.slot == no_slot)
                place.status = supply_->release_run(env, place.page, place.entry);
        }
        const bool in_slab = place.status == Status::ok && place.slot != no_slot;
        // Lanes whose slots share a word of bits clear them with one atomic, and give back the credits with another.
        const LaneMask peers =
            env.match_any(lanes, in_slab ? place.page * slot_words_per_page + place.slot / 32u : no_slot);
        const std::uint32_t bit = in_slab ? 1u << (place.slot % 32u) : 0u;
        const std::uint32_t bits = env.reduce_or(peers, bit);
        env.sync(lanes); // the other lanes' accesses to their blocks come before the bits that the first lane clears
        // What was set of the bits that the peers cleared; all ones if that was all of them.
        std::uint32_t seen = ~0u;
        SlabWord now{0};
        std::uint32_t cleared = 0;
        if (in_slab && env.lane() == lowest_bit(peers)) {
            seen = env.fetch_and(slabs_.bits_of(place.page)[place.slot / 32u], ~bits, Order::release) & bits;
            cleared = popcount(seen);
            if (cleared != 0) now = slabs_.add_credits(env, place.page, cleared);
            if (cleared == popcount(peers)) seen = ~0u;
        }
        Status status = place.status;
        if (env.ballot(lanes, seen != ~0u || status != Status::ok) != 0)
            status = find_fault(env, control_, peers, place.slot, status, env.shfl(lanes, seen, lowest_bit(peers)));
        if (now.needs_care(cleared)) supply_->take_care(env, place.page, now, cleared);
        env.sync(lanes); // together, so that no lane goes on while another owes the rest of this call
        return status;
    }

    /// Bytes that the caller may use at `block`, at least what was asked for; 0 when it is no place of a block of
    /// this heap. Whether the block is live is not looked at.
    CUDA_ZSTD_HD std::size_t usable_size(Env& env, const void* block) const {
        const Place place = locate(env, block);
        if (place.status != Status::ok) return 0;
        if (place.slot == no_slot) return std::size_t{place.entry.run_pages()} << page_shift;
        return slot_bytes_of(place.entry.size_class());
    }

    /// Whether the address lies in this heap's pages.
    CUDA_ZSTD_HD bool owns(const void* address) const {
        return static_cast<const char*>(address) >= pages_base_ &&
               static_cast<std::size_t>(static_cast<const char*>(address) - pages_base_) >> page_shift < page_count_;
    }

    CUDA_ZSTD_INLINE const Supply& supply() const { return *supply_; }
    CUDA_ZSTD_INLINE char* pages_base() const { return pages_base_; }
    CUDA_ZSTD_INLINE const Stations& stations() const { return stations_; }
    CUDA_ZSTD_INLINE atom<std::uint32_t>& control(ControlCell cell) const { return control(control_, cell); }

private:
    static constexpr unsigned run_kind = size_class_count;
    static constexpr unsigned invalid_kind = size_class_count + 1;

    struct Place {
        Status status;
        std::uint32_t page; ///< first page of the slab or the run
        std::uint32_t slot; ///< no_slot: a run
        PageEntry entry;
    };

    /// The size class, or which other path serves the request.
    CUDA_ZSTD_INLINE unsigned kind_of(std::size_t bytes, std::uint32_t alignment) const {
        if (bytes == 0 || !is_power_of_two(alignment) || alignment > page_bytes) return invalid_kind;
        if (bytes <= max_slot_bytes && alignment <= min_slot_bytes)
            return size_class_of(static_cast<std::uint32_t>(bytes));
        if (bytes > std::size_t{page_count_} << page_shift) return invalid_kind;
        if (bytes > max_slot_bytes || alignment > max_slot_bytes) return run_kind;
        return aligned_size_class_of(static_cast<std::uint32_t>(bytes), alignment);
    }

    /// What a group's first lane got: SlabGrant in 64 bits.
    struct Reserved {
        std::uint64_t raw = 0;

        CUDA_ZSTD_INLINE std::uint32_t slab() const { return static_cast<std::uint32_t>(raw >> 32); }
        CUDA_ZSTD_INLINE std::uint32_t start() const { return static_cast<std::uint32_t>(raw) >> 8; }
        CUDA_ZSTD_INLINE std::uint32_t count() const { return static_cast<std::uint32_t>(raw) & 0xffu; }
        /// Words of bits that the slots lie in: at most two, since a group has at most 32 lanes.
        CUDA_ZSTD_INLINE std::uint32_t words() const {
            return count() == 0 ? 0 : (start() % 32u + count() + 31u) / 32u;
        }
    };

    /// Up to `want` slots of the class, from this processor's cursor, else from wherever there are any. A count of 0
    /// comes with the reason as the start.
    CUDA_ZSTD_INLINE Reserved reserve_slots(Env& env, unsigned size_class, std::uint32_t want) const {
        const Cursor cursor{
            env.load(*stations_.template cell<Env>(size_class, stations_.here(env), Stations::cursor), Order::relaxed)};
        SlabGrant grant{cursor.current_plus_1() - 1u, 0, 0};
        SlabWord old{0};
        if (cursor.current_plus_1() != 0) {
            old = slabs_.subtract(env, grant.slab, want);
            grant = SlabMap<Env>::granted(old, grant.slab, size_class, want);
        }
        if (grant.count != want || (cursor.wants_next() && old.passes_half(want)))
            grant = out_of_line(&Supply::reserve_rarely)(supply_, env, size_class, want, cursor.raw, old.raw);
        return {std::uint64_t{grant.slab} << 32 | grant.start << 8 | grant.count};
    }

    /// Marks those of the slots as taken that lie in one word of bits: of the word with the first (0) or the next one
    /// (1). Returns the word as it was.
    CUDA_ZSTD_INLINE std::uint32_t set_bits(Env& env, const Reserved& got, std::uint32_t word) const {
        const unsigned first = got.start() % 32u;
        const std::uint32_t all = low_bits(got.count());
        const std::uint32_t mask = word == 0 ? all << first : all >> (32u - first);
        return env.fetch_or(slabs_.bits_of(got.slab())[got.start() / 32u + word], mask, Order::acquire);
    }

    /// What is wrong with the caller's pointer, once something is with one of the lanes'. `seen`: as in deallocate().
    static CUDA_ZSTD_RARE Status find_fault(PassedEnv<Env> env, char* control_block, LaneMask peers, std::uint32_t slot,
                                            Status status, std::uint32_t seen) {
        // Of several lanes that free one block in one call, the first counts.
        const LaneMask same = env.match_any(peers, slot);
        if (status == Status::ok && slot != no_slot &&
            ((seen >> (slot % 32u) & 1u) == 0 || env.lane() != lowest_bit(same)))
            status = Status::double_free;
        if (status != Status::ok) {
            const ControlCell cell =
                status == Status::double_free ? ControlCell::double_frees : ControlCell::invalid_frees;
            env.fetch_add(control(control_block, cell), 1u, Order::relaxed);
        }
        return status;
    }

    CUDA_ZSTD_HD Place locate(Env& env, const void* block) const {
        if (!owns(block)) return {Status::foreign, 0, 0, {0}};
        const auto offset = static_cast<std::size_t>(static_cast<const char*>(block) - pages_base_);
        const auto page = static_cast<std::uint32_t>(offset >> page_shift);
        const auto in_page = static_cast<std::uint32_t>(offset) & (page_bytes - 1u);
        const PageEntry entry{env.load(entries_[page], Order::relaxed)};
        if (entry.is_run()) return {in_page == 0 ? Status::ok : Status::interior, page, no_slot, entry};
        if (!entry.is_slab()) return {Status::double_free, 0, 0, entry};
        const std::uint32_t in_slab = (entry.pages_before() << page_shift) + in_page;
        const SlotSize slot_size = SlotSize::of(entry.size_class());
        const std::uint32_t slot = slot_size.slots_in(in_slab);
        // The last slot must end inside the slab: what is behind it was never a block.
        if (slot * slot_size.bytes() != in_slab || in_slab + slot_size.bytes() > page_bytes << entry.log2_pages())
            return {Status::interior, 0, 0, entry};
        return {Status::ok, page - entry.pages_before(), slot, entry};
    }

    static CUDA_ZSTD_INLINE atom<std::uint32_t>& control(char* block, ControlCell cell) {
        return *reinterpret_cast<atom<std::uint32_t>*>(block + static_cast<unsigned>(cell) * 128u);
    }

    static CUDA_ZSTD_RARE void note_failures(PassedEnv<Env> env, char* control_block, std::size_t bytes,
                                             std::uint32_t count) {
        const auto clipped = static_cast<std::uint32_t>(bytes < 0xffffffffu ? bytes : 0xffffffffu);
        if (env.fetch_add(control(control_block, ControlCell::failures), count, Order::relaxed) == 0)
            env.store(control(control_block, ControlCell::first_failed_bytes), clipped, Order::relaxed);
    }

    const Supply* supply_ = nullptr; ///< in the arena
    char* control_ = nullptr;
    char* pages_base_ = nullptr;
    SlabMap<Env> slabs_{};
    atom<std::uint32_t>* entries_ = nullptr;
    Stations stations_{};
    std::uint32_t page_count_ = 0;
};

} // namespace cuda_zstd
