// SPDX-License-Identifier: MIT
// The heap of a hardened build: a Heap whose blocks carry a header and red zones, and whose freed blocks wait.
//
// Invariant: the 64 bytes before a block say what it is: live, held in the quarantine, freed, or gone since its slot
// was handed out again, each by a number that depends on the block's address, so that no other bytes are taken for
// them; and how large it is, and where in the source it was allocated and freed. A seal next to the block tells whether
// what was said of the allocation is still that. One compare-and-swap takes a block from live to held: of two frees of
// one block, one finds it held or freed. What is found wrong is returned and counted; the block then stays as it is,
// for a debugger to look at.
//
// Built only where Hardening says so (core/hardening.hpp). Cost: 64 bytes before each block (its alignment, if that is
// more) and 32 behind it; one lane writes and reads all bytes of a block that it frees or that it gets poisoned.
#pragma once

#include "cuda_zstd/core/hardening.hpp"
#include "cuda_zstd/device/hardened_header.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

template <class Env>
class HardenedHeap {
public:
    template <class T>
    using atom = typename Env::template atom<T>;
    using State = HardeningState<Env>;
    using Header = HardenedHeader<Env>;

    static constexpr std::uint32_t header_bytes = 64;
    static constexpr std::uint32_t rear_bytes = HardenedHeader<Env>::rear_bytes;

    HardenedHeap() = default;
    static CUDA_ZSTD_HD HardenedHeap over(void* arena, const HeapLayout& layout) {
        HardenedHeap heap;
        heap.heap_ = Heap<Env>::over(arena, layout);
        heap.state_ = State::over(arena, layout);
        return heap;
    }

    /// As Heap::allocate. A full heap takes back what the quarantine holds before it says so.
    CUDA_ZSTD_HD void* allocate(Env& env, LaneMask lanes, std::size_t bytes, std::uint32_t alignment, Status& status,
                                const KnownPlace& place = {}) const {
        // What can never be had is refused by the heap, which knows how large it may become: there must be room for the
        // header in whatever it grants.
        const bool can_be = bytes != 0 && bytes <= ~std::size_t{0} - page_bytes - rear_bytes &&
                            is_power_of_two(alignment) && alignment <= page_bytes;
        const std::uint32_t front = !can_be || alignment < header_bytes ? header_bytes : alignment;
        const std::size_t whole = can_be ? front + bytes + rear_bytes : bytes;
        void* base = heap_.allocate(env, lanes, whole, alignment, status);
        const LaneMask failed = env.ballot(lanes, base == nullptr && status == Status::full);
        if (Hardening::quarantine && failed != 0) {
            release_quarantine(env, lanes);
            if ((failed >> env.lane() & 1u) != 0) base = heap_.allocate(env, failed, whole, alignment, status);
            env.sync(lanes);
        }
        if (base == nullptr) return nullptr;
        char* const block = static_cast<char*>(base) + front;
        const SlotLife life = life_at(env, base);
        if (Hardening::poison) leave_last(env, static_cast<char*>(base), life);
        Header& header = Header::of(block);
        header.write(env, block, bytes, front, life, place);
        env.store(header.state, State::mark(block, State::live), Order::release);
        return block;
    }

    /// As Heap::deallocate; besides, tells overwritten red zones and blocks that were never handed out. What it finds
    /// is noted with the places of the allocation, of the free before, and of this one.
    CUDA_ZSTD_HD Status deallocate(Env& env, LaneMask lanes, void* block, const KnownPlace& place = {}) const {
        Status status = Status::ok;
        void* back = nullptr;
        if (block != nullptr) {
            status = take_from_owner(env, static_cast<char*>(block), place);
            if (status == Status::ok) {
                if (Hardening::poison)
                    Header::fill(static_cast<char*>(block), Header::of(block).bytes, State::poison_byte);
                char* const leaving =
                    Hardening::quarantine ? state_.hold(env, static_cast<char*>(block)) : static_cast<char*>(block);
                if (leaving != nullptr) back = base_of_leaving(env, leaving);
            } else {
                const ControlCell cell =
                    status == Status::double_free ? ControlCell::double_frees : ControlCell::invalid_frees;
                env.fetch_add(heap_.control(cell), 1u, Order::relaxed);
            }
        }
        heap_.deallocate(env, lanes, back);
        return status;
    }

    /// Gives all blocks of the quarantine back to the heap: all lanes of the mask call together.
    CUDA_ZSTD_HD void release_quarantine(Env& env, LaneMask lanes) const {
        if constexpr (!Hardening::quarantine) return;
        const unsigned rank = popcount(lanes & env.lanes_before());
        for (unsigned first = 0; first < Hardening::quarantine_blocks; first += popcount(lanes)) {
            char* const leaving = state_.take(env, first + rank);
            heap_.deallocate(env, lanes, leaving != nullptr ? base_of_leaving(env, leaving) : nullptr);
        }
    }

    /// The bytes that were asked for; 0 when the block is not live.
    CUDA_ZSTD_HD std::size_t usable_size(Env& env, const void* block) const {
        if (!heap_.owns(block) || reinterpret_cast<std::uintptr_t>(block) % min_slot_bytes != 0) return 0;
        if (!heap_.owns(static_cast<const char*>(block) - header_bytes)) return 0;
        const Header& header = Header::of(block);
        return env.load(header.state, Order::acquire) == State::mark(block, State::live) ? header.bytes : 0;
    }

    // For audits, by threads that share out the pages while nobody else uses the heap.

    /// Looks at the red zones of every live block and calls `visit(block, bytes, place)` for it; looks at the bytes of
    /// those in the quarantine. What is wrong is noted, once for each block that the log has.
    template <class Visit>
    CUDA_ZSTD_HD void check_blocks(Env& env, std::uint32_t thread, std::uint32_t threads, const Visit& visit) const {
        const auto& supply = heap_.supply();
        for (std::uint32_t page = thread; page < supply.pages.pages_now(env); page += threads) {
            const PageEntry entry{env.load(supply.entries[page], Order::relaxed)};
            char* const base = heap_.pages_base() + (std::size_t{page} << page_shift);
            if (entry.is_run()) check_slot(env, base, std::size_t{entry.run_pages()} << page_shift, visit);
            if (!entry.is_slab() || entry.pages_before() != 0) continue;
            const SlotSize slot_size = entry.slot_size();
            const std::uint32_t slots = slot_size.slots_in(page_bytes << entry.log2_pages());
            for (std::uint32_t slot = 0; slot < slots; ++slot)
                if ((env.load(supply.slabs.bits_of(page)[slot / 32u], Order::relaxed) >> (slot % 32u) & 1u) != 0)
                    check_slot(env, base + std::size_t{slot} * slot_size.bytes(), slot_size.bytes(), visit);
        }
        for (std::uint32_t place = thread; place < Hardening::quarantine_blocks; place += threads)
            if (const char* const held = state_.at(env, place)) check_poison(env, held);
    }

    CUDA_ZSTD_HD bool owns(const void* address) const { return heap_.owns(address); }
    CUDA_ZSTD_INLINE const typename Heap<Env>::Supply& supply() const { return heap_.supply(); }
    CUDA_ZSTD_INLINE char* pages_base() const { return heap_.pages_base(); }
    CUDA_ZSTD_INLINE const Stations& stations() const { return heap_.stations(); }
    CUDA_ZSTD_INLINE atom<std::uint32_t>& control(ControlCell cell) const { return heap_.control(cell); }
    CUDA_ZSTD_INLINE const Heap<Env>& inner() const { return heap_; }
    CUDA_ZSTD_INLINE const State& state() const { return state_; }

private:
    static_assert(sizeof(Header) == header_bytes);

    CUDA_ZSTD_HD void note(Env& env, Fault fault, const void* block, const KnownPlace& found_by = {}) const {
        state_.note(env, fault, Header::of(block).known(env, block, found_by));
    }

    /// Of the slot that begins at `base` and is the caller's.
    CUDA_ZSTD_HD SlotLife life_at(Env& env, const void* base) const {
        const auto& supply = heap_.supply();
        const auto page = static_cast<std::uint32_t>(
            static_cast<std::size_t>(static_cast<const char*>(base) - heap_.pages_base()) >> page_shift);
        const PageEntry entry{env.load(supply.entries[page], Order::relaxed)};
        if (!entry.is_slab()) return {};
        return SlotLife::of(entry, SlabWord{env.load(supply.slabs.words[page - entry.pages_before()], Order::relaxed)});
    }
    /// Of a slot that is handed out again: looks at the bytes of the block that was in it last, whose header lies at
    /// one of few places. From here on they are another's, and its header says so.
    CUDA_ZSTD_HD void leave_last(Env& env, char* base, const SlotLife& life) const {
        for (std::uint32_t front = header_bytes; front < life.slot_bytes && front <= page_bytes; front *= 2) {
            const char* const last = base + front;
            Header& header = Header::of(last);
            if (env.load(header.state, Order::relaxed) != State::mark(last, State::freed)) continue;
            if (header.is_of(life) && !header.is_poisoned(last)) note(env, Fault::write_after_free, last);
            env.store(header.state, State::mark(last, State::gone), Order::relaxed);
        }
    }

    /// From live to held, if all is as it should be.
    CUDA_ZSTD_HD Status take_from_owner(Env& env, char* block, const KnownPlace& place) const {
        if (!heap_.owns(block)) return Status::foreign;
        if (reinterpret_cast<std::uintptr_t>(block) % min_slot_bytes != 0) return Status::interior;
        if (!heap_.owns(block - header_bytes)) return Status::interior;
        Header& header = Header::of(block);
        std::uint64_t seen = env.load(header.state, Order::acquire);
        if (seen == State::mark(block, State::held) || seen == State::mark(block, State::freed) ||
            seen == State::mark(block, State::gone))
            return freed_again(env, block, place);
        if (seen != State::mark(block, State::live)) return no_header(env, block, place);
        if (!header.is_whole(env, block)) {
            // Another free may have taken it meanwhile, and have written where it was made.
            if (env.load(header.state, Order::acquire) != seen) return freed_again(env, block, place);
            note(env, Fault::red_zone, block, place);
            return Status::corrupted;
        }
        if (!env.compare_exchange(header.state, seen, State::mark(block, State::held), Order::acq_rel))
            return freed_again(env, block, place);
        header.write_free(env, block, place);
        return Status::ok;
    }
    CUDA_ZSTD_HD Status freed_again(Env& env, const char* block, const KnownPlace& place) const {
        note(env, Fault::double_free, block, place);
        return Status::double_free;
    }

    /// The block in a slot or run that is in use; its header lies at one of few places.
    template <class Visit>
    CUDA_ZSTD_HD void check_slot(Env& env, char* base, std::size_t slot_bytes, const Visit& visit) const {
        for (std::uint32_t front = header_bytes; front < slot_bytes && front <= page_bytes; front *= 2) {
            char* const block = base + front;
            Header& header = Header::of(block);
            if (env.load(header.state, Order::relaxed) != State::mark(block, State::live)) continue;
            const bool is_sealed = header.is_sealed(block);
            const auto address = reinterpret_cast<std::uint64_t>(block);
            if (!header.is_whole(env, block) && !state_.has_noted(env, Fault::red_zone, address))
                note(env, Fault::red_zone, block);
            visit(block, is_sealed ? header.bytes : 0, is_sealed ? header.allocated() : KnownPlace{});
            return;
        }
    }

    /// Of a block in the quarantine.
    CUDA_ZSTD_HD void check_poison(Env& env, const char* block) const {
        const auto address = reinterpret_cast<std::uint64_t>(block);
        if (!Hardening::poison) return;
        if (Header::of(block).is_poisoned(block)) return;
        if (!state_.has_noted(env, Fault::write_after_free, address)) note(env, Fault::write_after_free, block);
    }

    /// What a pointer is before which there is no header: inside of a block, a block whose header was overwritten, or
    /// no block that was ever handed out.
    CUDA_ZSTD_HD Status no_header(Env& env, char* block, const KnownPlace& place) const {
        const auto offset = static_cast<std::size_t>(block - heap_.pages_base());
        const auto page = static_cast<std::uint32_t>(offset >> page_shift);
        const auto& supply = heap_.supply();
        const PageEntry entry{env.load(supply.entries[page], Order::relaxed)};
        char* base = heap_.pages_base() + (std::size_t{page} << page_shift);
        if (entry.is_slab()) {
            const std::uint32_t slab = page - entry.pages_before();
            const std::uint32_t in_slab =
                (entry.pages_before() << page_shift) + (static_cast<std::uint32_t>(offset) & (page_bytes - 1u));
            const SlotSize slot_size = entry.slot_size();
            const std::uint32_t slot = slot_size.slots_in(in_slab);
            if (slot >= slot_size.slots_in(page_bytes << entry.log2_pages())) return Status::interior;
            if ((env.load(supply.slabs.bits_of(slab)[slot / 32u], Order::acquire) >> (slot % 32u) & 1u) == 0) {
                state_.note(env, Fault::never_allocated, {reinterpret_cast<std::uint64_t>(block), 0, {}, {}, place});
                return Status::never_allocated;
            }
            base = heap_.pages_base() + (std::size_t{slab} << page_shift) + std::size_t{slot} * slot_size.bytes();
        } else if (!entry.is_run()) {
            // A free page, or a page inside of a run.
            return Status::interior;
        }
        if (block != base + header_bytes) return Status::interior;
        note(env, Fault::red_zone, block, place);
        return Status::corrupted;
    }

    /// A held block becomes a freed one, to be given to the heap: its base.
    CUDA_ZSTD_HD void* base_of_leaving(Env& env, char* block) const {
        Header& header = Header::of(block);
        check_poison(env, block);
        env.store(header.state, State::mark(block, State::freed), Order::release);
        return block - header.front_bytes();
    }

    Heap<Env> heap_;
    State state_;
};

} // namespace cuda_zstd
