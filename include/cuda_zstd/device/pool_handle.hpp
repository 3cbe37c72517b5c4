// SPDX-License-Identifier: MIT
// Blocks that may be moved: a kernel names them by handles, and finds them by one load.
//
// Invariant: an entry of the table is one word: the generation, and the block's place in the heap or 0 when the entry
// is free. A handle holds the entry's number and its generation; freeing raises the generation, so a handle that is
// used after that resolves to null and is counted. (Generations have 24 bits: a handle kept through 16.7 million reuses
// of its entry is taken for a new one.) A block moves only in HandleTable::relocate, that is, while no kernel holds a
// pointer to it: within a kernel a resolved pointer stays good until the handle is freed.
//
// An entry is looked for from a place that follows from the block's address, so handles of different blocks do not
// meet: at a table that is at most half full, one compare-and-swap as a rule.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/device/pool_ref.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// Names a block of T; trivially copyable, null by default.
template <class T>
struct pool_handle {
    std::uint64_t raw = 0;

    explicit CUDA_ZSTD_HD operator bool() const { return raw != 0; }
    friend CUDA_ZSTD_HD bool operator==(pool_handle left, pool_handle right) { return left.raw == right.raw; }
};

/// A word of the table.
struct HandleEntry {
    std::uint64_t raw = 0;

    static constexpr unsigned place_bits = 40;
    static constexpr std::uint64_t place_mask = (std::uint64_t{1} << place_bits) - 1;

    /// Offset of the block in the heap's pages, in units of 16 B, plus one.
    CUDA_ZSTD_INLINE std::uint64_t place() const { return raw & place_mask; }
    CUDA_ZSTD_INLINE std::uint64_t generation() const { return raw >> place_bits; }
    CUDA_ZSTD_INLINE HandleEntry with_place(std::uint64_t place) const { return {(raw & ~place_mask) | place}; }
    CUDA_ZSTD_INLINE HandleEntry freed() const { return {(generation() + 1) << place_bits}; }
};
static_assert((static_cast<std::uint64_t>(max_pages) << page_shift) / min_slot_bytes < HandleEntry::place_mask);

/// The counters beside a table.
enum class HandleCell : unsigned { stale_uses, refused, moved_blocks, moved_units, kept_blocks, count };

/// Goes by value into kernels; stays valid for as long as the HandleTable that gave it.
template <class Env>
class BasicHandleRef {
public:
    template <class T>
    using atom = typename Env::template atom<T>;

    BasicHandleRef() = default;
    CUDA_ZSTD_HD BasicHandleRef(const PoolHeap<Env>& heap, atom<std::uint64_t>* entries, std::uint32_t capacity,
                                atom<std::uint32_t>* cells)
        : heap_(heap), entries_(entries), capacity_(capacity), cells_(cells) {}

    /// A block of at least `bytes`, aligned to 16 B; null when the heap or the table is full. Cost: an allocation, a
    /// load and a compare-and-swap. Another thread may use the handle once it has it by the usual synchronization.
    template <class T>
    CUDA_ZSTD_HD pool_handle<T> allocate(Env& env, std::size_t bytes = sizeof(T)) const {
        static_assert(alignof(T) <= min_slot_bytes, "blocks that may move are aligned to 16 B");
        Status status;
        void* const block = heap_.allocate(env, env.converged(), bytes, min_slot_bytes, status);
        if (block == nullptr) return {};
        const std::uint64_t place = place_of(block);
        std::uint32_t index = start_of(place);
        for (std::uint32_t probe = 0; probe < capacity_; ++probe) {
            HandleEntry seen{env.load(entries_[index], Order::relaxed)};
            if (seen.place() == 0 &&
                env.compare_exchange(entries_[index], seen.raw, seen.with_place(place).raw, Order::relaxed))
                return {seen.generation() << HandleEntry::place_bits | (index + std::uint64_t{1})};
            index = index + 1 < capacity_ ? index + 1 : 0;
        }
        env.fetch_add(cell(HandleCell::refused), 1u, Order::relaxed);
        heap_.deallocate(env, env.converged(), block);
        return {};
    }

    /// Where the block is; null for a null handle, and for one that was freed, which is counted. Cost: one load.
    template <class T>
    CUDA_ZSTD_HD T* resolve(Env& env, pool_handle<T> handle) const {
        if (!handle) return nullptr;
        const std::uint32_t index = index_of(handle.raw);
        const HandleEntry entry{index < capacity_ ? env.load(entries_[index], Order::relaxed) : ~handle.raw};
        if (entry.place() != 0 && entry.generation() == HandleEntry{handle.raw}.generation())
            return static_cast<T*>(block_of(entry.place()));
        env.fetch_add(cell(HandleCell::stale_uses), 1u, Order::relaxed);
        return nullptr;
    }

    /// Frees the block and its handle. A null handle has no effect; one that was freed before gets `double_free`,
    /// changes nothing and is counted. Cost: a load, a compare-and-swap, and a free.
    template <class T>
    CUDA_ZSTD_HD Status deallocate(Env& env, pool_handle<T> handle) const {
        void* block = nullptr;
        Status status = Status::ok;
        if (handle) {
            const std::uint32_t index = index_of(handle.raw);
            HandleEntry seen{index < capacity_ ? env.load(entries_[index], Order::relaxed) : ~handle.raw};
            if (seen.place() != 0 && seen.generation() == HandleEntry{handle.raw}.generation() &&
                env.compare_exchange(entries_[index], seen.raw, seen.freed().raw, Order::relaxed)) {
                block = block_of(seen.place());
            } else {
                env.fetch_add(cell(HandleCell::stale_uses), 1u, Order::relaxed);
                status = Status::double_free;
            }
        }
        const Status freed = heap_.deallocate(env, env.converged(), block);
        return status == Status::ok ? freed : status;
    }

    /// Bytes that may be used behind a live handle; 0 for a null one and for one that was freed.
    template <class T>
    CUDA_ZSTD_HD std::size_t usable_size(Env& env, pool_handle<T> handle) const {
        const void* const block = resolve(env, handle);
        return block == nullptr ? 0 : heap_.usable_size(env, block);
    }

    // For relocation.

    CUDA_ZSTD_INLINE const PoolHeap<Env>& heap() const { return heap_; }
    CUDA_ZSTD_INLINE std::uint32_t capacity() const { return capacity_; }
    CUDA_ZSTD_INLINE atom<std::uint64_t>& entry(std::uint32_t index) const { return entries_[index]; }
    CUDA_ZSTD_INLINE atom<std::uint32_t>& cell(HandleCell which) const { return cells_[static_cast<unsigned>(which)]; }
    CUDA_ZSTD_INLINE std::uint64_t place_of(const void* block) const {
        return static_cast<std::uint64_t>(static_cast<const char*>(block) - heap_.pages_base()) / min_slot_bytes + 1;
    }
    CUDA_ZSTD_INLINE void* block_of(std::uint64_t place) const {
        return heap_.pages_base() + (place - 1) * min_slot_bytes;
    }

private:
    static CUDA_ZSTD_INLINE std::uint32_t index_of(std::uint64_t handle) {
        return static_cast<std::uint32_t>(handle & HandleEntry::place_mask) - 1u;
    }
    CUDA_ZSTD_INLINE std::uint32_t start_of(std::uint64_t place) const {
        // Places are multiples of the block's size: the product's upper half scatters them.
        const std::uint64_t scattered = (place * 0x9e3779b97f4a7c15u) >> 32;
        return static_cast<std::uint32_t>(scattered * capacity_ >> 32);
    }

    PoolHeap<Env> heap_;
    atom<std::uint64_t>* entries_ = nullptr;
    std::uint32_t capacity_ = 0;
    atom<std::uint32_t>* cells_ = nullptr;
};

} // namespace cuda_zstd
