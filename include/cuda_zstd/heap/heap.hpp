// SPDX-License-Identifier: MIT
// The device heap: allocate and deallocate for any set of lanes with any mixture of sizes.
//
// Invariant: a block of up to 32 KiB is one slot of a slab, a larger one is a run of whole pages; the bytes of two live
// blocks never overlap. The heap is a view: pointers into one arena, copied by value, owning nothing.
//
// Cost of the common case, for a group of lanes of one warp that want one size class: one load (cursor), one atomic for
// the group (credits), one atomic a lane (its bit). Free: one load and one atomic a lane, one atomic a slab for the
// group.
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
    rover,
    became_empty,
    reclaimed,
    epoch,
    failures,
    first_failed_bytes,
    invalid_frees,
    double_frees,
};

template <class Env>
class Heap {
public:
    template <class T>
    using atom = typename Env::template atom<T>;

    Heap() = default;

    /// The heap whose arena begins at `arena` (aligned to a page) with this layout. Takes no memory and writes none.
    static CUDA_ZSTD_HD Heap over(void* arena, const HeapLayout& layout) {
        char* const base = static_cast<char*>(arena);
        Heap heap;
        heap.pages_base_ = base + layout.pages_offset;
        heap.control_ = base + layout.control_offset;
        heap.supply_.pages = {reinterpret_cast<atom<std::uint32_t>*>(base + layout.page_bits_offset),
                              &heap.control(ControlCell::free_pages), &heap.control(ControlCell::least_free_pages),
                              &heap.control(ControlCell::rover), layout.page_count};
        heap.supply_.slabs = {reinterpret_cast<atom<std::uint64_t>*>(base + layout.slab_words_offset),
                              reinterpret_cast<atom<std::uint32_t>*>(base + layout.slot_bits_offset)};
        heap.supply_.entries = reinterpret_cast<atom<std::uint32_t>*>(base + layout.page_entries_offset);
        heap.supply_.next = reinterpret_cast<atom<std::uint32_t>*>(base + layout.next_offset);
        heap.supply_.cells = base + layout.cursors_offset;
        heap.supply_.cell_stride_bytes = cursor_stride_bytes;
        heap.supply_.cursor_shards = layout.cursor_shards;
        heap.supply_.slab_log2_pages = layout.slab_log2_pages;
        heap.supply_.became_empty = &heap.control(ControlCell::became_empty);
        heap.supply_.reclaimed = &heap.control(ControlCell::reclaimed);
        heap.supply_.epoch = &heap.control(ControlCell::epoch);
        return heap;
    }

    /// One block of at least `bytes` for each of the lanes `lanes`, which call together, each with its own size;
    /// aligned to `alignment` (a power of two up to 64 KiB). Null comes with the reason in `status`.
    CUDA_ZSTD_HD void* allocate(Env& env, LaneMask lanes, std::size_t bytes, std::uint32_t alignment,
                                Status& status) const {
        const unsigned kind = kind_of(bytes, alignment);
        const LaneMask group = env.match_any(lanes, kind);
        void* block = nullptr;
        if (kind < size_class_count) {
            block = allocate_slot(env, group, kind, status);
        } else if (kind == run_kind) {
            block = allocate_run(env, bytes, status);
        } else {
            status = Status::invalid;
        }
        if (block == nullptr) note_failure(env, bytes);
        return block;
    }

    /// Gives back one block for each of the lanes `lanes`, which call together. Null is ignored. Whatever is wrong with
    /// a pointer is returned and counted, and changes nothing.
    CUDA_ZSTD_HD Status deallocate(Env& env, LaneMask lanes, void* block) const {
        std::uint32_t slab = no_page;
        Status status = Status::ok;
        if (block != nullptr) {
            const Place place = locate(env, block);
            status = place.status;
            if (place.status == Status::ok && place.slot == no_slot) {
                status = release_run(env, place.page, place.entry);
            } else if (place.status == Status::ok) {
                if (supply_.slabs.clear_slot(env, place.page, place.slot)) {
                    slab = place.page;
                } else {
                    status = Status::double_free;
                }
            }
            if (status != Status::ok) note_bad_free(env, status);
        }
        // The bits are clear; now the credits, once for all lanes that freed into the same slab.
        const LaneMask group = env.match_any(lanes, slab);
        if (slab != no_page) {
            env.sync(group); // the other lanes' cleared bits come before the credits that the first lane adds
            if (env.lane() == lowest_bit(group)) supply_.add_credits(env, slab, popcount(group));
        }
        return status;
    }

    /// Bytes that the caller may use at `block`, at least what was asked for; 0 when it is no block of this heap.
    CUDA_ZSTD_HD std::size_t usable_size(Env& env, const void* block) const {
        const Place place = locate(env, block);
        if (place.status != Status::ok) return 0;
        if (place.slot == no_slot) return std::size_t{place.entry & page_entry::value_mask} << page_shift;
        return slot_bytes_of(supply_.word(env, place.page).size_class());
    }

    /// Whether the address lies in this heap's pages.
    CUDA_ZSTD_HD bool owns(const void* address) const {
        return static_cast<const char*>(address) >= pages_base_ &&
               static_cast<std::size_t>(static_cast<const char*>(address) - pages_base_) >> page_shift <
                   supply_.pages.page_count;
    }

    CUDA_ZSTD_INLINE const SlabSupply<Env>& supply() const { return supply_; }
    CUDA_ZSTD_INLINE char* pages_base() const { return pages_base_; }
    CUDA_ZSTD_INLINE atom<std::uint32_t>& control(ControlCell cell) const {
        return *reinterpret_cast<atom<std::uint32_t>*>(control_ + static_cast<unsigned>(cell) * 128u);
    }

private:
    static constexpr unsigned run_kind = size_class_count;
    static constexpr unsigned invalid_kind = size_class_count + 1;

    struct Place {
        Status status;
        std::uint32_t page;  ///< first page of the slab or the run
        std::uint32_t slot;  ///< no_slot: a run
        std::uint32_t entry; ///< the page's entry as it was read
    };

    /// The size class, or which other path serves the request.
    CUDA_ZSTD_INLINE unsigned kind_of(std::size_t bytes, std::uint32_t alignment) const {
        if (bytes == 0 || !is_power_of_two(alignment) || alignment > page_bytes) return invalid_kind;
        if (bytes > (std::size_t{supply_.pages.page_count} << page_shift)) return invalid_kind;
        if (bytes > max_slot_bytes || alignment > max_slot_bytes) return run_kind;
        if (alignment <= min_slot_bytes) return size_class_of(static_cast<std::uint32_t>(bytes));
        return aligned_size_class_of(static_cast<std::uint32_t>(bytes), alignment);
    }

    CUDA_ZSTD_HD void* allocate_slot(Env& env, LaneMask group, unsigned size_class, Status& status) const {
        const unsigned leader = lowest_bit(group);
        const unsigned rank = popcount(group & low_bits(env.lane()));
        const unsigned lanes = popcount(group);
        unsigned served = 0;
        void* block = nullptr;
        while (served < lanes) {
            SlabGrant grant;
            Status outcome = Status::ok;
            if (env.lane() == leader) grant = supply_.obtain(env, size_class, lanes - served, outcome);
            grant.count = env.shfl(group, grant.count, leader);
            grant.slab = env.shfl(group, grant.slab, leader);
            grant.start = env.shfl(group, grant.start, leader);
            outcome = static_cast<Status>(env.shfl(group, static_cast<std::uint32_t>(outcome), leader));
            env.sync(group); // a shuffle orders no memory: what the leader acquired holds for all from here
            if (grant.count == 0) {
                if (rank >= served) status = outcome;
                break;
            }
            if (rank >= served && rank - served < grant.count) {
                status = Status::ok;
                block = take(env, grant, size_class, rank - served, status);
            }
            served += grant.count;
        }
        return block;
    }

    CUDA_ZSTD_INLINE void* take(Env& env, const SlabGrant& grant, unsigned size_class, std::uint32_t offset,
                                Status& status) const {
        const std::uint32_t slots = supply_.word(env, grant.slab).slots();
        const std::uint32_t slot = supply_.slabs.take_slot(env, grant.slab, slots, grant.start + offset);
        if (slot == no_slot) {
            supply_.add_credits(env, grant.slab, 1);
            status = Status::contended;
            return nullptr;
        }
        return pages_base_ + (std::size_t{grant.slab} << page_shift) + std::size_t{slot} * slot_bytes_of(size_class);
    }

    CUDA_ZSTD_RARE void* allocate_run(Env& env, std::size_t bytes, Status& status) const {
        const auto count = static_cast<std::uint32_t>((bytes + (page_bytes - 1)) >> page_shift);
        for (unsigned turn = 0; turn < supply_turns; ++turn) {
            const std::uint32_t before = env.load(*supply_.epoch, Order::acquire);
            const std::uint32_t page = supply_.pages.claim(env, count);
            if (page != no_page) {
                env.store(supply_.entries[page], page_entry::run | count, Order::relaxed);
                status = Status::ok;
                return pages_base_ + (std::size_t{page} << page_shift);
            }
            if (!supply_.reclaim(env) && env.load(*supply_.epoch, Order::acquire) == before) {
                status = Status::full;
                return nullptr;
            }
        }
        status = Status::contended;
        return nullptr;
    }

    CUDA_ZSTD_RARE Status release_run(Env& env, std::uint32_t page, std::uint32_t entry) const {
        if (!env.compare_exchange(supply_.entries[page], entry, 0u, Order::acq_rel)) return Status::double_free;
        supply_.pages.release(env, page, entry & page_entry::value_mask);
        return Status::ok;
    }

    CUDA_ZSTD_HD Place locate(Env& env, const void* block) const {
        if (!owns(block)) return {Status::foreign, 0, 0, 0};
        const auto offset = static_cast<std::size_t>(static_cast<const char*>(block) - pages_base_);
        const auto page = static_cast<std::uint32_t>(offset >> page_shift);
        const std::uint32_t entry = env.load(supply_.entries[page], Order::relaxed);
        const std::uint32_t kind = entry & page_entry::kind_mask;
        if (kind == page_entry::run)
            return {(offset & (page_bytes - 1)) == 0 ? Status::ok : Status::interior, page, no_slot, entry};
        if (kind != page_entry::slab) return {Status::double_free, 0, 0, 0};
        const std::uint32_t slab = entry & page_entry::value_mask;
        const SlabWord word = supply_.word(env, slab);
        if (!word.is_slab()) return {Status::double_free, 0, 0, 0};
        const auto in_slab = static_cast<std::uint32_t>(offset - (std::size_t{slab} << page_shift));
        const std::uint32_t slot_bytes = slot_bytes_of(word.size_class());
        const std::uint32_t slot = in_slab / slot_bytes;
        if (slot * slot_bytes != in_slab || slot >= word.slots()) return {Status::interior, 0, 0, 0};
        return {Status::ok, slab, slot, entry};
    }

    CUDA_ZSTD_RARE void note_failure(Env& env, std::size_t bytes) const {
        const auto clipped = static_cast<std::uint32_t>(bytes < 0xffffffffu ? bytes : 0xffffffffu);
        if (env.fetch_add(control(ControlCell::failures), 1u, Order::relaxed) == 0)
            env.store(control(ControlCell::first_failed_bytes), clipped, Order::relaxed);
    }

    CUDA_ZSTD_RARE void note_bad_free(Env& env, Status status) const {
        const ControlCell cell = status == Status::double_free ? ControlCell::double_frees : ControlCell::invalid_frees;
        env.fetch_add(control(cell), 1u, Order::relaxed);
    }

    SlabSupply<Env> supply_{};
    char* pages_base_ = nullptr;
    char* control_ = nullptr;
};

} // namespace cuda_zstd
