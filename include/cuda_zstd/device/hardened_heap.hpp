// SPDX-License-Identifier: MIT
// The heap of a hardened build: a Heap whose blocks carry a header and red zones, and whose freed blocks wait.
//
// Invariant: the 32 bytes before a block say what it is: live, held in the quarantine, or freed, each by a number that
// depends on the block's address, so that no other bytes are taken for them. One compare-and-swap takes a block from
// live to held: of two frees of one block, one finds it held or freed. What is found wrong is returned and counted; the
// block then stays as it is, for a debugger to look at.
//
// Built only where Hardening says so (core/hardening.hpp). Cost: 32 bytes before each block (its alignment, if that is
// more) and 32 behind it; one lane writes and reads all bytes of a block that it frees or that it gets poisoned.
#pragma once

#include "cuda_zstd/core/hardening.hpp"
#include "cuda_zstd/device/hardening_state.hpp"
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

    static constexpr std::uint32_t header_bytes = 32;
    static constexpr std::uint32_t rear_bytes = Hardening::red_zones ? 32 : 0;

    HardenedHeap() = default;
    static CUDA_ZSTD_HD HardenedHeap over(void* arena, const HeapLayout& layout) {
        HardenedHeap heap;
        heap.heap_ = Heap<Env>::over(arena, layout);
        heap.state_ = State::over(arena, layout);
        return heap;
    }

    /// As Heap::allocate. A full heap takes back what the quarantine holds before it says so.
    CUDA_ZSTD_HD void* allocate(Env& env, LaneMask lanes, std::size_t bytes, std::uint32_t alignment,
                                Status& status) const {
        const bool can_be =
            bytes != 0 && bytes <= payload_bytes() && is_power_of_two(alignment) && alignment <= page_bytes;
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
        Header& header = header_of(block);
        if (Hardening::poison && env.load(header.state, Order::relaxed) == State::mark(block, State::freed) &&
            !is_filled(block, header.bytes, State::poison_byte))
            state_.note(env, Fault::write_after_free, block);
        header.bytes = bytes;
        header.front_bytes = front;
        header.guard = State::mark(block, State::guard);
        if (Hardening::red_zones) fill(block + bytes, rear_bytes, State::zone_byte);
        env.store(header.state, State::mark(block, State::live), Order::release);
        return block;
    }

    /// As Heap::deallocate; besides, tells overwritten red zones and blocks that were never handed out.
    CUDA_ZSTD_HD Status deallocate(Env& env, LaneMask lanes, void* block) const {
        Status status = Status::ok;
        void* back = nullptr;
        if (block != nullptr) {
            status = take_from_owner(env, static_cast<char*>(block));
            if (status == Status::ok) {
                if (Hardening::poison) fill(static_cast<char*>(block), header_of(block).bytes, State::poison_byte);
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
        const unsigned rank = popcount(lanes & low_bits(env.lane()));
        for (unsigned first = 0; first < Hardening::quarantine_blocks; first += popcount(lanes)) {
            char* const leaving = state_.take(env, first + rank);
            heap_.deallocate(env, lanes, leaving != nullptr ? base_of_leaving(env, leaving) : nullptr);
        }
    }

    /// The bytes that were asked for; 0 when the block is not live.
    CUDA_ZSTD_HD std::size_t usable_size(Env& env, const void* block) const {
        if (!heap_.owns(block) || reinterpret_cast<std::uintptr_t>(block) % min_slot_bytes != 0) return 0;
        if (!heap_.owns(static_cast<const char*>(block) - header_bytes)) return 0;
        const Header& header = header_of(block);
        return env.load(header.state, Order::acquire) == State::mark(block, State::live) ? header.bytes : 0;
    }

    CUDA_ZSTD_HD bool owns(const void* address) const { return heap_.owns(address); }
    CUDA_ZSTD_INLINE const typename Heap<Env>::Supply& supply() const { return heap_.supply(); }
    CUDA_ZSTD_INLINE char* pages_base() const { return heap_.pages_base(); }
    CUDA_ZSTD_INLINE const Stations& stations() const { return heap_.stations(); }
    CUDA_ZSTD_INLINE atom<std::uint32_t>& control(ControlCell cell) const { return heap_.control(cell); }
    CUDA_ZSTD_INLINE const Heap<Env>& inner() const { return heap_; }
    CUDA_ZSTD_INLINE const State& state() const { return state_; }

private:
    struct Header {
        atom<std::uint64_t> state;
        std::uint64_t bytes;
        std::uint64_t front_bytes;
        std::uint64_t guard; ///< next to the block: the red zone before it
    };
    static_assert(sizeof(Header) == header_bytes);

    CUDA_ZSTD_INLINE std::size_t payload_bytes() const {
        return std::size_t{heap_.supply().pages.page_count} << page_shift;
    }
    static CUDA_ZSTD_INLINE Header& header_of(const void* block) {
        return *reinterpret_cast<Header*>(const_cast<char*>(static_cast<const char*>(block)) - header_bytes);
    }
    static CUDA_ZSTD_HD void fill(char* bytes, std::size_t count, unsigned char with) {
        for (std::size_t i = 0; i < count; ++i)
            reinterpret_cast<unsigned char*>(bytes)[i] = with;
    }
    static CUDA_ZSTD_HD bool is_filled(const char* bytes, std::size_t count, unsigned char with) {
        for (std::size_t i = 0; i < count; ++i)
            if (reinterpret_cast<const unsigned char*>(bytes)[i] != with) return false;
        return true;
    }

    /// From live to held, if all is as it should be.
    CUDA_ZSTD_HD Status take_from_owner(Env& env, char* block) const {
        if (!heap_.owns(block)) return Status::foreign;
        if (reinterpret_cast<std::uintptr_t>(block) % min_slot_bytes != 0) return Status::interior;
        if (!heap_.owns(block - header_bytes)) return Status::interior;
        Header& header = header_of(block);
        std::uint64_t seen = env.load(header.state, Order::acquire);
        if (seen == State::mark(block, State::held) || seen == State::mark(block, State::freed))
            return Status::double_free;
        if (seen != State::mark(block, State::live)) return no_header(env, block);
        const std::size_t usable = heap_.usable_size(env, block - header.front_bytes);
        if (header.guard != State::mark(block, State::guard) ||
            usable < header.front_bytes + header.bytes + rear_bytes ||
            !is_filled(block + header.bytes, rear_bytes, State::zone_byte)) {
            state_.note(env, Fault::red_zone, block);
            return Status::corrupted;
        }
        return env.compare_exchange(header.state, seen, State::mark(block, State::held), Order::acq_rel)
                   ? Status::ok
                   : Status::double_free;
    }

    /// What a pointer is before which there is no header: inside of a block, a block whose header was overwritten, or
    /// no block that was ever handed out.
    CUDA_ZSTD_HD Status no_header(Env& env, char* block) const {
        const auto offset = static_cast<std::size_t>(block - heap_.pages_base());
        const auto page = static_cast<std::uint32_t>(offset >> page_shift);
        const auto& supply = heap_.supply();
        const PageEntry entry{env.load(supply.entries[page], Order::relaxed)};
        char* base = heap_.pages_base() + (std::size_t{page} << page_shift);
        if (entry.is_slab()) {
            const std::uint32_t slab = page - entry.pages_before();
            const std::uint32_t in_slab =
                (entry.pages_before() << page_shift) + (static_cast<std::uint32_t>(offset) & (page_bytes - 1u));
            const SlotSize slot_size = SlotSize::of(entry.size_class());
            const std::uint32_t slot = slot_size.slots_in(in_slab);
            if (slot >= slot_size.slots_in(page_bytes << entry.log2_pages())) return Status::interior;
            if ((env.load(supply.slabs.bits_of(slab)[slot / 32u], Order::acquire) >> (slot % 32u) & 1u) == 0) {
                state_.note(env, Fault::never_allocated, block);
                return Status::never_allocated;
            }
            base = heap_.pages_base() + (std::size_t{slab} << page_shift) + std::size_t{slot} * slot_size.bytes();
        } else if (!entry.is_run()) {
            // A free page, or a page inside of a run.
            return Status::interior;
        }
        if (block != base + header_bytes) return Status::interior;
        state_.note(env, Fault::red_zone, block);
        return Status::corrupted;
    }

    /// A held block becomes a freed one, to be given to the heap: its base.
    CUDA_ZSTD_HD void* base_of_leaving(Env& env, char* block) const {
        Header& header = header_of(block);
        if (Hardening::poison && !is_filled(block, header.bytes, State::poison_byte))
            state_.note(env, Fault::write_after_free, block);
        env.store(header.state, State::mark(block, State::freed), Order::release);
        return block - header.front_bytes;
    }

    Heap<Env> heap_;
    State state_;
};

} // namespace cuda_zstd
