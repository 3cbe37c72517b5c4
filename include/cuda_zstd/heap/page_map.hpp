// SPDX-License-Identifier: MIT
// The pages of a heap: which are free, and runs of them.
//
// Invariant: a bit set in the map is a free page that nobody owns. `free_count` is never below the number of bits set:
// a release adds to it before it sets the bits, a claim subtracts after it cleared them. So a count below a request's
// proves that it cannot be served. Adjacent free pages are one run without any merging, since a run is nothing but its
// bits.
//
// Progress: lock-free. A claim that finds its run taken puts back what it cleared and looks on; it fails when one
// pass over the map found no run.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"

#include <cstdint>

namespace cuda_zstd {

inline constexpr std::uint32_t no_page = 0xffffffffu;
/// Places that a rover points out before a claim searches the map.
inline constexpr unsigned rover_tries = 3;

/// A processor's own way through the map: of `count` rovers, number `index` visits the words index, index + count, ...
/// one after the other, and hands out each place once a round, so that callers do not try the same one.
template <class Env>
struct Rover {
    typename Env::template atom<std::uint64_t>* position; ///< pages handed out so far
    std::uint32_t index;
    std::uint32_t count;
};

template <class Env>
struct PageMap {
    template <class T>
    using atom = typename Env::template atom<T>;

    atom<std::uint32_t>* bits;       ///< 1 = free
    atom<std::uint32_t>* free_count; ///< at least the bits set
    atom<std::uint32_t>* least_free; ///< the smallest free_count that a release found
    /// Pages that claims look at, from the first. A heap that grows publishes another count here (HeapChunks); the bits
    /// decide, so whoever works with an older count is as right.
    std::uint32_t page_count;

    CUDA_ZSTD_INLINE std::uint32_t pages_now(Env& env) const { return env.load_word(page_count, Order::relaxed); }

    /// Whether `count` pages may be free: false is a proof that they are not. Cost: one load.
    CUDA_ZSTD_INLINE bool may_have(Env& env, std::uint32_t count) const {
        return env.load(*free_count, Order::acquire) >= count;
    }

    /// Takes `count` adjacent pages. Returns the first, or no_page. Up to 32 lie in one word, aligned to the next power
    /// of two, where the rover finds them so. Cost: three atomics, two of them one after the other, when the rover's
    /// place is free; else a pass over the map. What the releasing thread did before its release is visible to the
    /// claimer; who sees these pages gone sees what the claimer did before.
    CUDA_ZSTD_RARE std::uint32_t claim(Env& env, std::uint32_t count, const Rover<Env>& rover) const {
        const std::uint32_t words = (pages_now(env) + 31u) / 32u;
        if (words == 0) return no_page;
        // Runs of many words begin in regions of their own.
        std::uint32_t word = words / rover.count * rover.index;
        std::uint32_t page = no_page;
        if (count <= 32u) {
            const std::uint32_t rounds = (words + rover.count - 1u) / rover.count;
            const std::uint32_t step = count == 1 ? 1u : 2u << highest_bit(count - 1u);
            for (unsigned attempt = 0; page == no_page && attempt < rover_tries; ++attempt) {
                // The position of a claim that others of another size came before is not aligned: the place is that
                // below, and may be taken in part.
                const auto position =
                    static_cast<std::uint32_t>(env.fetch_add(*rover.position, std::uint64_t{step}, Order::relaxed));
                word = (rover.index + rover.count * (position / 32u % rounds)) % words;
                const std::uint32_t bit = position % 32u & ~(step - 1u);
                if (take_exactly(env, word, low_bits(count) << bit)) page = word * 32u + bit;
            }
        }
        if (page == no_page) {
            if (!may_have(env, count)) return no_page;
            page = search(env, count, word, words);
            // The second part ends inside the first, so that a run across the start is found too.
            const std::uint32_t overlap = (count + 31u) / 32u + 1u;
            if (page == no_page && word != 0)
                page = search(env, count, 0, word + overlap < words ? word + overlap : words);
            if (page == no_page) return no_page;
        }
        env.fetch_sub(*free_count, count, Order::release);
        return page;
    }

    /// Whether a run of `count` pages is free: a pass over the map that changes nothing.
    CUDA_ZSTD_RARE bool has_run(Env& env, std::uint32_t count) const {
        if (!may_have(env, count)) return false;
        std::uint32_t length = 0;
        const std::uint32_t words = (pages_now(env) + 31u) / 32u;
        for (std::uint32_t word = 0; word < words; ++word) {
            std::uint32_t seen = env.load(bits[word], Order::acquire);
            if (seen == ~0u) {
                length += 32u;
                if (length >= count) return true;
                continue;
            }
            for (unsigned bit = 0; bit < 32u; ++bit, seen >>= 1) {
                length = (seen & 1u) != 0 ? length + 1 : 0;
                if (length >= count) return true;
            }
        }
        return false;
    }

    /// Gives `count` pages from `first` back. Cost: one atomic for each 32 pages and one for the count. What the
    /// caller did before is visible to whoever claims them.
    CUDA_ZSTD_RARE void release(Env& env, std::uint32_t first, std::uint32_t count) const {
        // A least count lies just before a release, or is the present one.
        const std::uint32_t before = env.fetch_add(*free_count, count, Order::relaxed);
        if (before < env.load(*least_free, Order::relaxed)) env.fetch_min(*least_free, before, Order::relaxed);
        set_bits(env, first, count);
    }

private:
    /// The bits of word `word` that belong to pages [first, first + count).
    static CUDA_ZSTD_INLINE std::uint32_t part(std::uint32_t word, std::uint32_t first, std::uint32_t count) {
        const std::uint32_t from = word * 32u > first ? 0u : first - word * 32u;
        const std::uint32_t end = first + count - word * 32u;
        return low_bits(end < 32u ? end : 32u) & ~low_bits(from);
    }

    CUDA_ZSTD_HD void set_bits(Env& env, std::uint32_t first, std::uint32_t count) const {
        for (std::uint32_t word = first / 32u; word * 32u < first + count; ++word)
            env.fetch_or(bits[word], part(word, first, count), Order::release);
    }

    /// Clears the bits `mask` of a word, all or none: at once, and puts back what it got if that was not all.
    CUDA_ZSTD_HD bool take_exactly(Env& env, std::uint32_t word, std::uint32_t mask) const {
        const std::uint32_t got = env.fetch_and(bits[word], ~mask, Order::acq_rel) & mask;
        if (got == mask) return true;
        if (got != 0) env.fetch_or(bits[word], got, Order::release);
        return false;
    }

    /// Clears the bits `mask` of a word, all or none: only if all are there.
    CUDA_ZSTD_HD bool take_bits(Env& env, std::uint32_t word, std::uint32_t mask) const {
        std::uint32_t seen = env.load(bits[word], Order::relaxed);
        while ((seen & mask) == mask)
            if (env.compare_exchange(bits[word], seen, seen & ~mask, Order::acq_rel)) return true;
        return false;
    }

    /// Clears the bits of the run, all or none. On failure the word that lacked a page is stored in `lacking`.
    CUDA_ZSTD_HD bool take_run(Env& env, std::uint32_t first, std::uint32_t count, std::uint32_t& lacking) const {
        for (std::uint32_t word = first / 32u; word * 32u < first + count; ++word) {
            if (take_bits(env, word, part(word, first, count))) continue;
            if (word * 32u > first) set_bits(env, first, word * 32u - first);
            lacking = word;
            return false;
        }
        return true;
    }

    /// Claims the first run of `count` free pages that begins and ends in words [begin, end).
    CUDA_ZSTD_HD std::uint32_t search(Env& env, std::uint32_t count, std::uint32_t begin, std::uint32_t end) const {
        std::uint32_t run_first = begin * 32u;
        std::uint32_t run_length = 0;
        for (std::uint32_t word = begin; word < end; ++word) {
            std::uint32_t seen = env.load(bits[word], Order::relaxed);
            unsigned bit = 0;
            while (bit < 32u) {
                const std::uint32_t rest = seen >> bit;
                if (rest == 0) {
                    run_length = 0;
                    break;
                }
                const unsigned gap = lowest_bit(rest);
                if (gap != 0) {
                    run_length = 0;
                    bit += gap;
                }
                const std::uint32_t gone = ~(seen >> bit);
                const unsigned ones = gone == 0 ? 32u : lowest_bit(gone);
                const unsigned length = ones < 32u - bit ? ones : 32u - bit;
                if (run_length == 0) run_first = word * 32u + bit;
                run_length += length;
                bit += length;
                if (run_length < count) continue;
                std::uint32_t lacking = 0;
                if (take_run(env, run_first, count, lacking)) return run_first;
                // Somebody was faster. Look on from the word that lacked a page, as it is now, but never again
                // from the same first page: that bounds the pass.
                word = lacking;
                seen = env.load(bits[word], Order::relaxed);
                run_length = 0;
                bit = word * 32u > run_first ? 0u : run_first + 1u - word * 32u;
            }
        }
        return no_page;
    }
};

} // namespace cuda_zstd
