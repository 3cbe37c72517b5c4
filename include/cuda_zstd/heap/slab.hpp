// SPDX-License-Identifier: MIT
// Slabs: runs of pages cut into slots of one size class.
//
// Invariant: `credits` of a slab's word are the free slots that nobody has reserved. A reservation takes credits before
// it searches a bit; a free clears the bit before it adds the credit. So a clear bit exists for every credit
// taken, and "all credits there" means that nobody is inside: the slab can be retired by one compare-and-swap.
//
// The word, from the lowest bit: class + 1 (0: not a slab), listed, log2 of its pages, home, generation; credits are
// the upper 32 bits, signed, so that an over-subtraction borrows from nothing. Every change is an addition, or a
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
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cstdint>

namespace cuda_zstd {

/// A slab's word, taken apart.
struct SlabWord {
    std::uint64_t raw;

    static constexpr std::uint64_t class_mask = 0x3f;
    static constexpr std::uint64_t listed_bit = 0x40;
    static constexpr unsigned pages_shift = 7;
    static constexpr unsigned home_shift = 10;
    static constexpr unsigned generation_shift = 18;
    static_assert(max_stations == 1u << (generation_shift - home_shift));
    static constexpr std::uint64_t low_mask = 0xffffffffu;

    CUDA_ZSTD_INLINE bool is_slab() const { return (raw & class_mask) != 0; }
    CUDA_ZSTD_INLINE unsigned size_class() const { return static_cast<unsigned>(raw & class_mask) - 1u; }
    CUDA_ZSTD_INLINE bool listed() const { return (raw & listed_bit) != 0; }
    CUDA_ZSTD_INLINE unsigned log2_pages() const { return static_cast<unsigned>(raw >> pages_shift) & 7u; }
    CUDA_ZSTD_INLINE std::uint32_t pages() const { return 1u << log2_pages(); }
    /// The station that the slab was made at: there it is listed, whoever frees into it.
    CUDA_ZSTD_INLINE unsigned home() const { return static_cast<unsigned>(raw >> home_shift) & (max_stations - 1u); }
    CUDA_ZSTD_INLINE std::int32_t credits() const { return static_cast<std::int32_t>(raw >> 32); }
    CUDA_ZSTD_INLINE std::uint32_t slots() const {
        return SlotSize::of(size_class()).slots_in(page_bytes << log2_pages());
    }
    /// Whether all credits are there.
    CUDA_ZSTD_INLINE bool all_free() const {
        return is_slab() && credits() > 0 && has_all_credits(slot_bytes_of(size_class()));
    }
    /// Whether an addition of credits that made this word must be followed up: the slab is out of reach, had no
    /// credits (whoever proves that there are none must look again), or is empty.
    CUDA_ZSTD_INLINE bool needs_care(std::uint32_t added) const {
        return is_slab() && needs_care(added, slot_bytes_of(size_class()));
    }
    /// The same for who knows that it is a slab, of slots of this size.
    CUDA_ZSTD_INLINE bool needs_care(std::uint32_t added, std::uint32_t slot_bytes) const {
        return credits() > 0 && (!listed() || had_none(added) || has_all_credits(slot_bytes));
    }
    /// Whether the slab had no credits before `added` of them were.
    CUDA_ZSTD_INLINE bool had_none(std::uint32_t added) const { return credits() <= static_cast<std::int32_t>(added); }
    /// Whether a reservation of `want` slots from this word makes less than half of the slab free that was not before.
    CUDA_ZSTD_INLINE bool passes_half(std::uint32_t want) const {
        if (!is_slab() || credits() <= 0) return false;
        const std::uint32_t half_bytes = page_bytes / 2 << log2_pages();
        const std::uint32_t slot_bytes = slot_bytes_of(size_class());
        const auto now = static_cast<std::uint32_t>(credits());
        return now * slot_bytes > half_bytes && (now < want || (now - want) * slot_bytes <= half_bytes);
    }
    /// Whether more than half of the slab is free: then a reservation is to come that passes_half.
    CUDA_ZSTD_INLINE bool is_mostly_free() const {
        return is_slab() && credits() > 0 &&
               static_cast<std::uint32_t>(credits()) * slot_bytes_of(size_class()) > page_bytes / 2 << log2_pages();
    }
    /// What is left of a slab when its pages are given back: the next generation, nothing else.
    CUDA_ZSTD_INLINE SlabWord retired() const {
        const std::uint64_t next = (raw & low_mask) + (std::uint64_t{1} << generation_shift);
        return SlabWord{next & low_mask & ~((std::uint64_t{1} << generation_shift) - 1)};
    }
    /// What an addition to a retired word makes of it: a listed slab with all its credits.
    static CUDA_ZSTD_INLINE std::uint64_t birth(unsigned size_class, unsigned log2_pages, unsigned home) {
        const std::uint64_t slots = SlotSize::of(size_class).slots_in(page_bytes << log2_pages);
        return (slots << 32) | (std::uint64_t{home} << home_shift) | (std::uint64_t{log2_pages} << pages_shift) |
               listed_bit | (size_class + 1u);
    }
    static CUDA_ZSTD_INLINE std::uint64_t credit(std::uint32_t count) { return std::uint64_t{count} << 32; }

private:
    /// Whether credits that are above 0, at most the slots of a slab, are all of them: one more would not fit.
    CUDA_ZSTD_INLINE bool has_all_credits(std::uint32_t slot_bytes) const {
        return (static_cast<std::uint32_t>(credits()) + 1u) * slot_bytes > page_bytes << log2_pages();
    }
};

/// Slots reserved in a slab: `count` of them, from slot `start` on unless somebody else has one of those.
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
    /// got less. `returned` is what was over-subtracted: the caller gives it back (SlabShelf::give_back).
    CUDA_ZSTD_HD SlabGrant reserve(Env& env, std::uint32_t slab, unsigned size_class, std::uint32_t want,
                                   std::uint32_t& returned) const {
        const SlabGrant grant = granted(subtract(env, slab, want), slab, size_class, want);
        returned = want - grant.count;
        return grant;
    }

    /// The first half of a reservation: takes credits, whether they are there or not. Returns the word before.
    CUDA_ZSTD_INLINE SlabWord subtract(Env& env, std::uint32_t slab, std::uint32_t want) const {
        return SlabWord{env.fetch_sub(words[slab], SlabWord::credit(want), Order::acquire)};
    }

    /// What a subtraction of `want` credits from a word that was `old` got. Slots are handed out from the last to the
    /// first: those of a slab that was never freed into are the `count` from `start` on, in any other it is a hint.
    static CUDA_ZSTD_INLINE SlabGrant granted(SlabWord old, std::uint32_t slab, unsigned size_class,
                                              std::uint32_t want) {
        const bool has_any = (old.raw & SlabWord::class_mask) == size_class + 1u && old.credits() > 0;
        const std::uint32_t credits = has_any ? static_cast<std::uint32_t>(old.credits()) : 0u;
        const std::uint32_t count = credits < want ? credits : want;
        return {slab, credits - count, count};
    }

    /// Adds the credits of freed slots, whose bits must be clear. The caller must follow up a word that needs care.
    /// Cost: one atomic.
    CUDA_ZSTD_INLINE SlabWord add_credits(Env& env, std::uint32_t slab, std::uint32_t count) const {
        const std::uint64_t credits = SlabWord::credit(count);
        return SlabWord{env.fetch_add(words[slab], credits, Order::release) + credits};
    }
    /// The same for credits that a reservation did not use: nothing was done to their slots, so there is nothing to
    /// release.
    CUDA_ZSTD_INLINE SlabWord return_credits(Env& env, std::uint32_t slab, std::uint32_t count) const {
        const std::uint64_t credits = SlabWord::credit(count);
        return SlabWord{env.fetch_add(words[slab], credits, Order::relaxed) + credits};
    }

    /// Takes a reserved slot of a slab that was freed into. The lane with number `offset` of its group begins that many
    /// words behind `start`, at a bit of its own, so that the lanes do not all try the same bits. Returns no_slot when
    /// the bounded search ran out; then the caller still owns one credit of the slab. Cost: a load for each 32 slots
    /// passed, an atomic for each bit tried.
    CUDA_ZSTD_RARE std::uint32_t find_slot(PassedEnv<Env> env, std::uint32_t slab, std::uint32_t start,
                                           std::uint32_t offset) const {
        atom<std::uint32_t>* const bits = bits_of(slab);
        const std::uint32_t slots = SlabWord{env.load(words[slab], Order::relaxed)}.slots();
        const std::uint32_t count = (slots + 31u) / 32u;
        const std::uint32_t first_bit = (start + offset) % 32u;
        std::uint32_t word = (start / 32u + offset) % count;
        for (std::uint32_t step = 0; step < count * slot_search_passes; ++step) {
            const std::uint32_t valid = low_bits(slots - word * 32u < 32u ? slots - word * 32u : 32u);
            std::uint32_t seen = env.load(bits[word], Order::relaxed);
            for (std::uint32_t free = ~seen & valid; free != 0; free = ~seen & valid) {
                const std::uint32_t ahead = free & ~low_bits(first_bit);
                const std::uint32_t bit = 1u << lowest_bit(ahead != 0 ? ahead : free);
                seen = env.fetch_or(bits[word], bit, Order::acquire);
                if ((seen & bit) == 0) return word * 32u + lowest_bit(bit);
            }
            word = word + 1u < count ? word + 1u : 0u;
        }
        return no_slot;
    }

    /// Where in `slot_bits` the bit of a slab's slot lies.
    static CUDA_ZSTD_INLINE std::uint32_t bit_word(std::uint32_t slab, std::uint32_t slot) {
        static_assert(max_pages * slot_words_per_page <= no_slot);
        return slab * slot_words_per_page + slot / 32u;
    }
    CUDA_ZSTD_INLINE atom<std::uint32_t>* bits_of(std::uint32_t slab) const {
        return slot_bits + static_cast<std::size_t>(slab) * slot_words_per_page;
    }
};

} // namespace cuda_zstd
