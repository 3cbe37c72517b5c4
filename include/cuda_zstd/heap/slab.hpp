// SPDX-License-Identifier: MIT
// Slabs: runs of pages cut into slots of one size class.
//
// Invariant: `credits` of a slab's word are the free slots that nobody has reserved. A reservation takes credits before
// it searches a bit; a free clears the bit before it adds the credit. So a clear bit exists for every credit
// taken, and "all credits there" means that nobody is inside: the slab can be retired by one compare-and-swap.
//
// The word, from the lowest bit: class + 1 (0: not a slab), listed, log2 of its pages, generation; credits are the
// upper 32 bits, signed, so that an over-subtraction borrows from nothing. Every change is an addition, or a
// compare-and-swap that names the whole word. A reserver with a stale slab number may subtract from any
// word at any time; it sees by the value returned that the slab is not what it wanted, and gives back. That is
// why a new slab is published by an addition, which keeps such a passing debt, never by a store.
//
// `listed` means that the slab can be reached (from a list or a cursor) or that exactly one thread, its
// holder, is about to make it reachable, unlist it or retire it. Whoever turns `listed` on becomes the holder.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/core/size_class.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cstdint>

namespace cuda_zstd {

/// A slab's word, taken apart.
struct SlabWord {
    std::uint64_t raw;

    static constexpr std::uint64_t class_mask = 0x3f;
    static constexpr std::uint64_t listed_bit = 0x40;
    static constexpr unsigned pages_shift = 7;
    static constexpr unsigned generation_shift = 10;
    static constexpr std::uint64_t low_mask = 0xffffffffu;

    CUDA_ZSTD_INLINE bool is_slab() const { return (raw & class_mask) != 0; }
    CUDA_ZSTD_INLINE unsigned size_class() const { return static_cast<unsigned>(raw & class_mask) - 1u; }
    CUDA_ZSTD_INLINE bool listed() const { return (raw & listed_bit) != 0; }
    CUDA_ZSTD_INLINE unsigned log2_pages() const { return static_cast<unsigned>(raw >> pages_shift) & 7u; }
    CUDA_ZSTD_INLINE std::uint32_t pages() const { return 1u << log2_pages(); }
    CUDA_ZSTD_INLINE std::int32_t credits() const { return static_cast<std::int32_t>(raw >> 32); }
    CUDA_ZSTD_INLINE std::uint32_t slots() const { return (page_bytes << log2_pages()) / slot_bytes_of(size_class()); }
    CUDA_ZSTD_INLINE bool all_free() const { return is_slab() && credits() == static_cast<std::int32_t>(slots()); }
    /// What is left of a slab when its pages are given back: the next generation, nothing else.
    CUDA_ZSTD_INLINE SlabWord retired() const {
        const std::uint64_t next = (raw & low_mask) + (std::uint64_t{1} << generation_shift);
        return SlabWord{next & low_mask & ~((std::uint64_t{1} << generation_shift) - 1)};
    }
    /// What an addition to a retired word makes of it: a listed slab with all its credits.
    static CUDA_ZSTD_INLINE std::uint64_t birth(unsigned size_class, unsigned log2_pages) {
        const std::uint64_t slots = (page_bytes << log2_pages) / slot_bytes_of(size_class);
        return (slots << 32) | (std::uint64_t{log2_pages} << pages_shift) | listed_bit | (size_class + 1u);
    }
    static CUDA_ZSTD_INLINE std::uint64_t credit(std::uint32_t count) { return std::uint64_t{count} << 32; }
};

/// Slots reserved in a slab: `count` of them, to be searched for from slot `start` on.
struct SlabGrant {
    std::uint32_t slab = 0;
    std::uint32_t start = 0;
    std::uint32_t count = 0;
};

inline constexpr std::uint32_t no_slot = 0xffffffffu;
/// Passes over a slab's bits after which a reservation is given back: each pass without a slot means that others took
/// and freed slots behind the search.
inline constexpr unsigned slot_search_passes = 64;

/// The bits of the slots, and the reservation of slots in one slab.
template <class Env>
struct SlabMap {
    template <class T>
    using atom = typename Env::template atom<T>;

    atom<std::uint64_t>* words;     ///< one for each page; a slab is named by its first page
    atom<std::uint32_t>* slot_bits; ///< slot_words_per_page for each page; 1 = taken

    /// Reserves up to `want` slots of the slab if it is one of the class. Cost: one atomic, a second one when it
    /// got less. `returned` is what was over-subtracted: the caller gives it back (Heap::add_credits).
    CUDA_ZSTD_HD SlabGrant reserve(Env& env, std::uint32_t slab, unsigned size_class, std::uint32_t want,
                                   std::uint32_t& returned) const {
        const SlabWord old{env.fetch_sub(words[slab], SlabWord::credit(want), Order::acquire)};
        SlabGrant grant{slab, 0, 0};
        if (old.is_slab() && old.size_class() == size_class && old.credits() > 0) {
            const auto credits = static_cast<std::uint32_t>(old.credits());
            grant.count = credits < want ? credits : want;
            // In a slab that was never freed into, the free slots are the last `credits`.
            const std::uint32_t slots = old.slots();
            grant.start = credits < slots ? slots - credits : 0;
        }
        returned = want - grant.count;
        return grant;
    }

    /// Takes the reserved slot nearest to `start`, cyclically. Cost: one atomic in a slab never freed into. Returns
    /// no_slot when the bounded search ran out; then the caller still owns one credit of the slab.
    CUDA_ZSTD_HD std::uint32_t take_slot(Env& env, std::uint32_t slab, std::uint32_t slots, std::uint32_t start) const {
        atom<std::uint32_t>* bits = slot_bits + static_cast<std::size_t>(slab) * slot_words_per_page;
        if (start >= slots) start %= slots;
        std::uint32_t word = start / 32u;
        const std::uint32_t first = 1u << (start % 32u);
        std::uint32_t seen = env.fetch_or(bits[word], first, Order::acquire);
        if ((seen & first) == 0) return start;
        const std::uint32_t count = (slots + 31u) / 32u;
        // Lanes of one group start in different places of a word, else all would fight for its lowest clear bit.
        for (std::uint32_t step = 0; step < count * slot_search_passes; ++step) {
            const std::uint32_t valid = low_bits(slots - word * 32u < 32u ? slots - word * 32u : 32u);
            std::uint32_t free = ~seen & valid;
            while (free != 0) {
                const std::uint32_t ahead = free & ~low_bits(start % 32u);
                const std::uint32_t bit = 1u << lowest_bit(ahead != 0 ? ahead : free);
                seen = env.fetch_or(bits[word], bit, Order::acquire);
                if ((seen & bit) == 0) return word * 32u + lowest_bit(bit);
                free = ~seen & valid;
            }
            word = word + 1u < count ? word + 1u : 0u;
            seen = env.load(bits[word], Order::relaxed);
        }
        return no_slot;
    }

    /// Clears the slot's bit. Returns whether it was taken: if not, this is a double free. Cost: one atomic.
    CUDA_ZSTD_HD bool clear_slot(Env& env, std::uint32_t slab, std::uint32_t slot) const {
        atom<std::uint32_t>& word = slot_bits[static_cast<std::size_t>(slab) * slot_words_per_page + slot / 32u];
        const std::uint32_t bit = 1u << (slot % 32u);
        return (env.fetch_and(word, ~bit, Order::release) & bit) != 0;
    }
};

} // namespace cuda_zstd
