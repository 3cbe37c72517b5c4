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

template <class Env>
struct PageMap {
    template <class T>
    using atom = typename Env::template atom<T>;

    atom<std::uint32_t>* bits;       ///< 1 = free
    atom<std::uint32_t>* free_count; ///< at least the bits set
    atom<std::uint32_t>* least_free; ///< the smallest free_count that a claim left behind
    std::uint32_t page_count;

    /// Whether `count` pages may be free: false is a proof that they are not. Cost: one load.
    CUDA_ZSTD_INLINE bool may_have(Env& env, std::uint32_t count) const {
        return env.load(*free_count, Order::acquire) >= count;
    }

    /// Takes `count` adjacent pages. Returns the first, or no_page. `rover` is the word where the search begins, a hint
    /// of the caller's own that moves on by `stride` words when it is used up: so callers with rovers of their own do
    /// not fight for the same words. Cost: two loads, three atomics and one for each 32 pages when the hint is good;
    /// else a pass over the map. What the releasing thread did before its release is visible to the claimer.
    CUDA_ZSTD_RARE std::uint32_t claim(Env& env, std::uint32_t count, atom<std::uint64_t>& rover,
                                       std::uint32_t stride) const {
        if (!may_have(env, count)) return no_page;
        const std::uint32_t words = (page_count + 31u) / 32u;
        const std::uint32_t start = static_cast<std::uint32_t>(env.load(rover, Order::relaxed)) % words;
        std::uint32_t page = search(env, count, start, words);
        // The second part ends inside the first, so that a run across the hint is found too.
        const std::uint32_t overlap = (count + 31u) / 32u + 1u;
        if (page == no_page && start != 0)
            page = search(env, count, 0, start + overlap < words ? start + overlap : words);
        if (page == no_page) return no_page;
        // Release: who sees these pages gone also sees what the caller did before, such as marking the cursor that
        // they are for.
        const std::uint32_t left = env.fetch_sub(*free_count, count, Order::release) - count;
        env.fetch_min(*least_free, left, Order::relaxed);
        if (page / 32u != start) env.store(rover, std::uint64_t{start + stride}, Order::relaxed);
        return page;
    }

    /// Gives `count` pages from `first` back. Cost: one atomic for each 32 pages and one for the count. What the
    /// caller did before is visible to whoever claims them.
    CUDA_ZSTD_RARE void release(Env& env, std::uint32_t first, std::uint32_t count) const {
        env.fetch_add(*free_count, count, Order::relaxed);
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

    /// Clears the bits `mask` of a word, all or none.
    CUDA_ZSTD_HD bool take_bits(Env& env, std::uint32_t word, std::uint32_t mask) const {
        std::uint32_t seen = env.load(bits[word], Order::relaxed);
        while ((seen & mask) == mask)
            if (env.compare_exchange(bits[word], seen, seen & ~mask, Order::acquire)) return true;
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
                const std::uint32_t taken = ~(seen >> bit);
                const unsigned ones = taken == 0 ? 32u : lowest_bit(taken);
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
