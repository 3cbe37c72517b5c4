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
#include "cuda_zstd/env/environment.hpp"

#include <cstdint>

namespace cuda_zstd {

inline constexpr std::uint32_t no_page = 0xffffffffu;
/// Places that a claim looks at at once when its rover's next one is taken, and how often, before it searches the map.
inline constexpr unsigned places_at_once = 6;
inline constexpr unsigned rover_looks = 3;

/// Words of the map that claims may search because pages in front are preferred, from one trim to the next: as many as
/// a pass over 4 TiB.
inline constexpr std::uint32_t most_drain_words = 1u << 21;

/// How long a claim looks for a run.
enum class ClaimEffort : unsigned char {
    tries, ///< at the places that the rover points out
    search ///< there, and then everywhere
};

/// The processors' ways through the map, so that callers do not try the same place. The map is cut into groups of
/// pages; of `count` rovers, number n visits the groups n, n + count, ... one after the other, and when it has been
/// through its own, another one's. Each hands out the places of its groups from the first on, and goes back to where a
/// slab was given back, so that slabs stay together. Runs come and go too fast for that: who goes back for each finds
/// most places taken.
template <class Env>
struct Rovers {
    using Position = typename Env::template atom<std::uint64_t>;

    char* first; ///< rover 0's position, in pages; the others' are `stride_bytes` apart
    std::size_t stride_bytes;
    std::uint32_t index; ///< the caller's
    std::uint32_t count;
    std::uint32_t log2_group_pages; ///< at least 5: whole words

    CUDA_ZSTD_INLINE Position& position(std::uint32_t rover) const {
        return *reinterpret_cast<Position*>(first + rover * stride_bytes);
    }
    /// Moves the caller's rover on by `places` places of `step` pages, a power of two of at most a group. Returns where
    /// the first of them is on its way. A place that smaller claims have entered is given out again.
    CUDA_ZSTD_INLINE std::uint32_t pass(Env& env, std::uint32_t step, std::uint32_t places) const {
        return static_cast<std::uint32_t>(
                   env.fetch_add(position(index), std::uint64_t{step} * places, Order::relaxed)) &
               ~(step - 1u);
    }
    /// Where the caller's rover is.
    CUDA_ZSTD_INLINE std::uint32_t now(Env& env) const {
        return static_cast<std::uint32_t>(env.load(position(index), Order::relaxed));
    }
    /// Passes the place of `step` pages at `to`, if the caller's rover is still between `from` and that: what it went
    /// back for is not passed over. Else the next place.
    CUDA_ZSTD_INLINE std::uint32_t pass_from(Env& env, std::uint32_t from, std::uint32_t to, std::uint32_t step) const {
        std::uint64_t at = env.load(position(index), Order::relaxed);
        if (at >= from && at <= to &&
            env.compare_exchange(position(index), at, std::uint64_t{to} + step, Order::relaxed))
            return to;
        return pass(env, step, 1);
    }
    /// The page that is `at` on the caller's rover's way. It may lie behind the last of the map's `pages`.
    CUDA_ZSTD_INLINE std::uint32_t place_of(std::uint32_t at, std::uint32_t pages) const {
        const std::uint32_t groups = ((pages - 1u) >> log2_group_pages) + 1u;
        const std::uint32_t turn = at >> log2_group_pages;
        std::uint32_t group = index + turn * count;
        if (group >= groups || turn >= groups) { // through its own: the divisions are left out as long as it is not
            const std::uint32_t turns = (groups + count - 1u) / count;
            group = (index + turn / turns * other_rover + count * (turn % turns)) % groups;
        }
        return (group << log2_group_pages) + (at & ((1u << log2_group_pages) - 1u));
    }
    /// Where a claim of more than a group begins to look: the caller's claims one behind the other, from a region of
    /// its own on.
    CUDA_ZSTD_HD std::uint32_t next_region(Env& env, std::uint32_t step, std::uint32_t words) const {
        const auto at = static_cast<std::uint32_t>(env.fetch_add(position(index), std::uint64_t{step}, Order::relaxed));
        return (words / count * index + at / 32u) % words;
    }
    /// A slab that began at `page` was given back.
    CUDA_ZSTD_HD void go_back(Env& env, std::uint32_t page) const {
        const std::uint32_t group = page >> log2_group_pages;
        const std::uint32_t at = (group / count << log2_group_pages) + (page & ((1u << log2_group_pages) - 1u));
        env.fetch_min(position(group % count), std::uint64_t{at}, Order::relaxed);
    }

private:
    /// How far away the rover is whose groups are visited after the own: neighbors are often as busy.
    static constexpr std::uint32_t other_rover = 61;
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
    /// Pages that claims take first, from the first; 0: there is no such preference. What lies behind them is claimed
    /// when there is no run in front; runs go to the first place, which may be of all pages. The preference ends when a
    /// claim of one page finds none, or when its searches have passed `most_drain_words`: a heap that is short of
    /// pages, or does not drain, does not look for long again and again.
    std::uint32_t near_count = 0;
    /// Words that searches may still pass before the preference ends.
    atom<std::uint32_t>* drain_words = nullptr;

    CUDA_ZSTD_INLINE std::uint32_t pages_now(Env& env) const { return env.load_word(page_count, Order::relaxed); }
    CUDA_ZSTD_INLINE std::uint32_t near_now(Env& env) const { return env.load_word(near_count, Order::relaxed); }
    /// Whether there are pages that claims leave alone as long as they find others.
    CUDA_ZSTD_INLINE bool has_far(Env& env) const {
        const std::uint32_t near_pages = near_now(env);
        return near_pages != 0 && near_pages < pages_now(env);
    }
    /// Whether the page is one of these.
    CUDA_ZSTD_INLINE bool is_far(Env& env, std::uint32_t page) const {
        const std::uint32_t near_pages = near_now(env);
        return near_pages != 0 && page >= near_pages;
    }

    /// Whether `count` pages may be free: false is a proof that they are not. Cost: one load.
    CUDA_ZSTD_INLINE bool may_have(Env& env, std::uint32_t count) const {
        return env.load(*free_count, Order::acquire) >= count;
    }

    /// Takes `count` adjacent pages. Returns the first, or no_page. Up to a group lie aligned to the next power of two,
    /// where the rover finds them so. Cost: three atomics, two of them one after the other, for up to 32 pages when the
    /// rover's place is free; else a pass over the map. What the releasing thread did before its release is visible to
    /// the claimer; who sees these pages gone sees what the claimer did before.
    CUDA_ZSTD_RARE std::uint32_t claim(PassedEnv<Env> env, std::uint32_t count, const Rovers<Env>& rovers,
                                       ClaimEffort effort) const {
        const std::uint32_t all_pages = pages_now(env);
        const std::uint32_t near_pages = near_now(env);
        const std::uint32_t pages = near_pages != 0 && near_pages < all_pages ? near_pages : all_pages;
        const std::uint32_t words = (pages + 31u) / 32u;
        if (words == 0) return no_page;
        const std::uint32_t step = count == 1 ? 1u : 2u << highest_bit(count - 1u);
        std::uint32_t word = 0;
        std::uint32_t page = no_page;
        if (near_pages != 0 && count > 1 && effort == ClaimEffort::search) {
            // First fit: runs that stay together leave chunks free. Places of the rovers would spread them.
        } else if (step >> rovers.log2_group_pages <= 1u) {
            std::uint32_t place = rovers.place_of(rovers.pass(env, step, 1), pages);
            if (place + count > pages) place = no_page;
            for (unsigned look = 0;; ++look) {
                std::uint32_t lacking = 0;
                if (place != no_page) {
                    word = place / 32u;
                    if (count <= 32u ? take_exactly(env, word, low_bits(count) << place % 32u)
                                     : take_run(env, place, count, lacking)) {
                        page = place;
                        break;
                    }
                }
                if (look == rover_looks) break;
                place = look_ahead(env, count, step, pages, rovers);
            }
        } else {
            word = rovers.next_region(env, (count + 31u) & ~31u, words);
        }
        if (page == no_page) {
            if (effort == ClaimEffort::tries || !may_have(env, count)) return no_page;
            page = claim_anywhere(env, count, word, all_pages, near_pages);
            if (page == no_page) return no_page;
        }
        env.fetch_sub(*free_count, count, Order::release);
        return page;
    }

    /// Whether the pages of the place's first word are free, at a look. Cost: a load.
    CUDA_ZSTD_INLINE bool seems_free(Env& env, std::uint32_t place, std::uint32_t count) const {
        const std::uint32_t mask = low_bits(count) << place % 32u;
        return (env.load(bits[place / 32u], Order::relaxed) & mask) == mask;
    }
    /// Takes `count` pages from `place` on, a power of two and a multiple of it; false when one of them is taken: then
    /// the others were out of sight for a moment, which makes it a move all the same. Cost: an atomic for each 32 pages
    /// and one for the count. Ordering: as claim().
    CUDA_ZSTD_INLINE bool claim_at(Env& env, std::uint32_t place, std::uint32_t count) const {
        const std::uint32_t first = place / 32u;
        const std::uint32_t mask = low_bits(count) << place % 32u;
        for (std::uint32_t word = first; word * 32u < place + count; ++word) {
            if (take_exactly(env, word, mask)) continue;
            while (word-- > first)
                env.fetch_or(bits[word], mask, Order::release);
            return false;
        }
        env.fetch_sub(*free_count, count, Order::release);
        return true;
    }

    /// Whether a run of `count` pages is free: a pass over the map that changes nothing.
    CUDA_ZSTD_RARE bool has_run(PassedEnv<Env> env, std::uint32_t count) const {
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

    /// Gives `count` pages from `first` back. Cost: one atomic for each 32 pages and one for the count. What the caller
    /// did before is visible to whoever claims them. With rovers (not those of a default value), the one whose place
    /// this is comes back for it.
    CUDA_ZSTD_RARE void release(PassedEnv<Env> env, std::uint32_t first, std::uint32_t count,
                                const Rovers<Env>& rovers) const {
        // A least count lies just before a release, or is the present one.
        const std::uint32_t before = env.fetch_add(*free_count, count, Order::relaxed);
        if (before < env.load(*least_free, Order::relaxed)) env.fetch_min(*least_free, before, Order::relaxed);
        set_bits(env, first, count);
        if (rovers.count != 0) rovers.go_back(env, first);
    }

private:
    /// A search has passed so many words for the sake of the near pages.
    CUDA_ZSTD_RARE void spend(PassedEnv<Env> env, std::uint32_t words) const {
        const auto left = static_cast<std::int32_t>(env.fetch_sub(*drain_words, words, Order::relaxed));
        if (left > static_cast<std::int32_t>(words)) return;
        env.store_word(const_cast<std::uint32_t&>(near_count), 0u, Order::relaxed);
    }

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
            const std::uint32_t mask = part(word, first, count);
            // Of a word that is wanted whole, nobody else can have use for what is left.
            if (mask == ~0u ? take_exactly(env, word, mask) : take_bits(env, word, mask)) continue;
            if (word * 32u > first) set_bits(env, first, word * 32u - first);
            lacking = word;
            return false;
        }
        return true;
    }

    /// The first of the rover's next places that seems to be free, all looked at at once; no_page: none does.
    CUDA_ZSTD_RARE std::uint32_t look_ahead(PassedEnv<Env> env, std::uint32_t count, std::uint32_t step,
                                            std::uint32_t pages, const Rovers<Env>& rovers) const {
        const std::uint32_t at = rovers.pass(env, step, places_at_once);
        std::uint32_t place = no_page;
        for (unsigned ahead = places_at_once; ahead-- > 0;) {
            const std::uint32_t other = rovers.place_of(at + ahead * step, pages);
            if (other + count > pages) continue;
            const std::uint32_t mask = count < 32u ? low_bits(count) << other % 32u : ~0u;
            if ((env.load(bits[other / 32u], Order::relaxed) & mask) == mask) place = other;
        }
        return place;
    }

    /// Claims a run wherever there is one, from word `word` of the map on; of a heap that drains, first in the near
    /// pages.
    CUDA_ZSTD_RARE std::uint32_t claim_anywhere(PassedEnv<Env> env, std::uint32_t count, std::uint32_t word,
                                                std::uint32_t all_pages, std::uint32_t near_pages) const {
        const std::uint32_t pages = near_pages != 0 && near_pages < all_pages ? near_pages : all_pages;
        const std::uint32_t words = (pages + 31u) / 32u;
        std::uint32_t page = search(env, count, word, words);
        // The second part ends inside the first, so that a run across the start is found too.
        const std::uint32_t overlap = (count + 31u) / 32u + 1u;
        if (page == no_page && word != 0) page = search(env, count, 0, word + overlap < words ? word + overlap : words);
        if (page == no_page && pages < all_pages) {
            if (count == 1) env.store_word(const_cast<std::uint32_t&>(near_count), 0u, Order::relaxed);
            page = search(env, count, words > overlap ? words - overlap : 0, (all_pages + 31u) / 32u);
        }
        if (near_pages != 0) spend(env, page != no_page && page >= word * 32u ? page / 32u - word + 1u : words);
        return page;
    }

    /// The first word from `word` on that may have a free page, or `end`: several loads at once, since each takes as
    /// long as all.
    CUDA_ZSTD_HD std::uint32_t skip_taken(Env& env, std::uint32_t word, std::uint32_t end) const {
        constexpr std::uint32_t at_once = 8;
        for (; word + at_once <= end; word += at_once) {
            std::uint32_t any = 0;
            for (std::uint32_t ahead = 0; ahead < at_once; ++ahead)
                any |= env.load(bits[word + ahead], Order::relaxed);
            if (any != 0) return word;
        }
        return word;
    }

    /// Claims the first run of `count` free pages that begins and ends in words [begin, end).
    CUDA_ZSTD_RARE std::uint32_t search(PassedEnv<Env> env, std::uint32_t count, std::uint32_t begin,
                                        std::uint32_t end) const {
        std::uint32_t run_first = begin * 32u;
        std::uint32_t run_length = 0;
        for (std::uint32_t word = begin; word < end; ++word) {
            if (run_length == 0 && (word = skip_taken(env, word, end)) == end) break;
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
