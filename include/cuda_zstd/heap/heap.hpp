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
#include "cuda_zstd/env/whole_warp.hpp"
#include "cuda_zstd/heap/layout.hpp"
#include "cuda_zstd/heap/slot_groups.hpp"
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
        return with_known_mask<Env>(lanes, [&](LaneMask mask) { return take(env, mask, bytes, alignment, status); });
    }

    /// Gives back one block for each of the lanes `lanes`, which call together. Null is ignored. Whatever is wrong with
    /// a pointer is returned and counted, and changes nothing.
    CUDA_ZSTD_HD Status deallocate(Env& env, LaneMask lanes, void* block) const {
        const auto together = [&](const auto& step) { return with_known_mask<Env>(lanes, step); };
        const Place place = locate(env, block);
        Status status = Status::ok;
        if (place.slot == no_slot && block != nullptr) {
            status = place.fault();
            if (status == Status::ok) status = supply_->release_run(env, place.page, place.entry);
        }
        // Lanes whose slots share a word of bits clear them with one atomic, and give back the credits with another.
        const bool in_slab = place.slot != no_slot;
        const std::uint32_t slab = place.page - place.entry.pages_before();
        const std::uint32_t word = slabs_.bit_word(slab, place.slot);
        const LaneMask peers = together([&](LaneMask mask) { return env.match_any(mask, in_slab ? word : no_slot); });
        const std::uint32_t bits = env.reduce_or(peers, in_slab ? 1u << (place.slot % 32u) : 0u);
        // The other lanes' accesses to their blocks come before the bits that the first lane clears.
        together([&](LaneMask mask) { env.sync(mask); });
        // What was set of the bits that the peers cleared; all ones if that was all of them.
        std::uint32_t seen = ~0u;
        SlabWord now{0};
        std::uint32_t cleared = 0;
        if (in_slab && env.lane() == lowest_bit(peers)) {
            seen = env.fetch_and(slabs_.slot_bits[word], ~bits, Order::release) & bits;
            cleared = popcount(seen);
            if (cleared != 0) now = slabs_.add_credits(env, slab, cleared);
            if (cleared == popcount(peers)) seen = ~0u;
        }
        const bool has_fault = seen != ~0u || status != Status::ok;
        if (together([&](LaneMask mask) { return env.ballot(mask, has_fault); }) != 0)
            status = find_fault(env, control_, peers, place.slot, status, env.shfl(lanes, seen, lowest_bit(peers)));
        if (now.needs_care(cleared, place.entry.slot_size().bytes())) supply_->take_care(env, slab, now, cleared);
        // Together, so that no lane goes on while another owes the rest of this call.
        together([&](LaneMask mask) { env.sync(mask); });
        return status;
    }

    /// Bytes that the caller may use at `block`, at least what was asked for; 0 when it is no place of a block of
    /// this heap. Whether the block is live is not looked at.
    CUDA_ZSTD_HD std::size_t usable_size(Env& env, const void* block) const {
        const Place place = locate(env, block);
        if (place.slot != no_slot) return place.entry.slot_size().bytes();
        return place.fault() == Status::ok ? std::size_t{place.entry.run_pages()} << page_shift : 0;
    }

    /// Whether the address lies in this heap's pages.
    CUDA_ZSTD_HD bool owns(const void* address) const {
        return offset_of(address) >> page_shift < page_count_; // what lies in front of the pages wraps around
    }

    CUDA_ZSTD_INLINE const Supply& supply() const { return *supply_; }
    CUDA_ZSTD_INLINE char* pages_base() const { return pages_base_; }
    CUDA_ZSTD_INLINE const Stations& stations() const { return stations_; }
    CUDA_ZSTD_INLINE atom<std::uint32_t>& control(ControlCell cell) const { return control(control_, cell); }

private:
    static constexpr unsigned run_kind = size_class_count;
    static constexpr unsigned invalid_kind = size_class_count + 1;

    /// What an address is in this heap.
    struct Place {
        std::uint32_t page;    ///< no_page: not of this heap
        std::uint32_t in_page; ///< bytes
        std::uint32_t slot;    ///< no_slot: none begins there
        PageEntry entry;       ///< of the page

        /// What is wrong with a pointer to here, where no slot begins: `ok` where a run does.
        CUDA_ZSTD_INLINE Status fault() const {
            if (page == no_page) return Status::foreign;
            if (entry.is_run()) return in_page == 0 ? Status::ok : Status::interior;
            return entry.is_slab() ? Status::interior : Status::double_free;
        }
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

    CUDA_ZSTD_INLINE void* take(Env& env, LaneMask lanes, std::size_t bytes, std::uint32_t alignment,
                                Status& status) const {
        using Groups = SlotGroups<Env>;
        using Taken = typename Groups::Taken;
        const unsigned kind = kind_of(bytes, alignment);
        const LaneMask group = env.match_any(lanes, kind);
        // Runs go first: they need pages side by side, slots any page.
        Taken run;
        if (kind == run_kind) (*out_of_line(&Heap::take_run))(supply_, env, bytes, run);
        Taken taken = Groups{supply_, slabs_, stations_}.turn(env, lanes, group, kind, kind < size_class_count);
        if (env.ballot(lanes, !taken.has_slot()) != 0) {
            if (kind == run_kind) taken = run;
            if (kind == invalid_kind) taken.refuse(Status::invalid);
            if (env.ballot(lanes, taken.asks()) != 0)
                taken = out_of_line(&Groups::go_on)(supply_, env, lanes, group, kind, taken);
            // Of lanes that fail in one call, the first one's size stands for all.
            const LaneMask failed = env.ballot(lanes, !taken.has_slot());
            if (failed != 0 && env.lane() == lowest_bit(failed)) note_failures(env, control_, bytes, popcount(failed));
            env.sync(lanes); // counted before any lane says so
        }
        status = taken.status();
        if (!taken.has_slot()) return nullptr;
        return pages_base_ + (std::size_t{taken.slab} << page_shift) + std::size_t{taken.slot} * slot_bytes_of(kind);
    }

    /// A run of pages, told as a slot of its first page. In memory, since a register would be the caller's all along.
    static CUDA_ZSTD_RARE void take_run(const Supply* supply, PassedEnv<Env> env, std::size_t bytes,
                                        typename SlotGroups<Env>::Taken& run) {
        run = {Supply::claim_run_rarely(supply, env, bytes), 0};
        if (run.slab >= no_page_now) run.refuse(run.slab == no_page ? Status::full : Status::contended);
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

    /// The slot that begins at the address, if any does.
    CUDA_ZSTD_INLINE Place locate(Env& env, const void* block) const {
        const std::size_t offset = offset_of(block);
        Place place{middle_bits(offset, page_shift), static_cast<std::uint32_t>(offset) % page_bytes, no_slot, {0}};
        if (!owns(block)) {
            place.page = no_page;
            return place;
        }
        place.entry.raw = env.load(entries_[place.page], Order::relaxed);
        if (!place.entry.is_slab()) return place;
        const std::uint32_t in_slab = (place.entry.pages_before() << page_shift) + place.in_page;
        const SlotSize slot_size = place.entry.slot_size();
        const std::uint32_t slot = slot_size.slots_in(in_slab);
        // The last slot must end inside the slab: what is behind it was never a block.
        if (slot * slot_size.bytes() == in_slab && in_slab + slot_size.bytes() <= page_bytes
                                                                                      << place.entry.log2_pages())
            place.slot = slot;
        return place;
    }

    CUDA_ZSTD_INLINE std::size_t offset_of(const void* address) const {
        return reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(pages_base_);
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
