// SPDX-License-Identifier: MIT
// The search of a warp: as many positions at once as there are lanes.
//
// Invariant: a window of `warp_lanes` positions is searched, chosen from and inserted as a whole before the next one
// begins at its end or at the end of its last match; so a table never holds a position that is not behind the window.
// All lanes hold the same state and emit together.
#pragma once

#include "match_finder.hpp"

namespace cuda_zstd::detail {

/// Forward extension by all lanes, 8 bytes each: from `length` equal bytes on to the first that differs.
template <class Env, class Pool>
CUDA_ZSTD_HD std::uint32_t MatchFinder<Env, Pool>::extend_forward(std::uint32_t position, std::uint32_t offset,
                                                                  std::uint32_t length) {
    constexpr LaneMask warp = whole_warp<Env>;
    while (true) {
        const std::uint32_t mine = length + 8 * env_.lane();
        std::uint32_t equal = 0;
        if (position + mine < bytes_) equal = count_equal(position + mine, offset, 0, 8);
        const LaneMask stops = env_.ballot(warp, equal < 8);
        if (stops != 0) {
            const unsigned first = lowest_bit(stops);
            return length + 8 * first + env_.shfl(warp, equal, first);
        }
        length += 8 * Env::warp_lanes;
    }
}

/// How many bytes before `position` equal those `offset` before them, down to the end of the last sequence.
template <class Env, class Pool>
CUDA_ZSTD_HD std::uint32_t MatchFinder<Env, Pool>::extend_backward(std::uint32_t position, std::uint32_t offset) {
    constexpr LaneMask warp = whole_warp<Env>;
    const std::uint32_t before_match = position - offset;
    const std::uint32_t literals = position - anchor_;
    const std::uint32_t most = literals < before_match ? literals : before_match;
    std::uint32_t done = 0;
    while (true) {
        const std::uint32_t back = done + env_.lane() + 1;
        const bool equal = back <= most && input_[position - back] == input_[position - back - offset];
        const LaneMask stops = env_.ballot(warp, !equal);
        if (stops != 0) return done + lowest_bit(stops);
        done += Env::warp_lanes;
    }
}

template <class Env, class Pool>
CUDA_ZSTD_HD bool MatchFinder<Env, Pool>::search_warp() {
    constexpr LaneMask warp = whole_warp<Env>;
    constexpr std::uint32_t lanes = Env::warp_lanes;
    using Entry = typename Tables::Entry;
    const std::uint32_t limit = bytes_ - 8;
    const std::uint32_t lane = env_.lane();
    const LaneMask lanes_below = (LaneMask{1} << lane) - 1;
    // The latest position before `position` whose low bits are the entry's; not below `position` when there is none.
    const auto position_of = [](Entry entry, std::uint32_t position) {
        const std::uint32_t low = (position & ~std::uint32_t{0xFFFF}) | entry;
        return low < position ? low : low - 0x10000;
    };

    std::uint32_t base = 0;
    while (base <= limit) {
        const std::uint32_t position = base + lane;
        const bool active = position <= limit;
        const std::uint64_t bytes = active ? load64(input_ + position) : 0;
        const std::uint32_t few = hash_few(bytes);
        const std::uint32_t many = hash_many(bytes);
        const LaneMask same_few = env_.match_any(warp, active ? few : 0x80000000u | lane);
        Match found;
        if (active) {
            std::uint32_t candidate = position_of(tables_.many[many], position);
            consider_position(found, position, bytes, candidate, lane_compare_bytes);
            const LaneMask earlier = same_few & lanes_below;
            candidate = earlier != 0 ? base + highest_bit(earlier) : position_of(tables_.few[few], position);
            consider_position(found, position, bytes, candidate, lane_compare_bytes);
        }
        env_.sync(warp);
        if (active && same_few >> lane == 1) tables_.few[few] = static_cast<Entry>(position);
        if (active) tables_.many[many] = static_cast<Entry>(position);

        std::uint32_t from = 0;
        while (from < lanes) {
            Match best = found;
            if (active) consider_repeated(best, position, bytes, lane_compare_bytes);
            const std::uint32_t gain =
                lane >= from && best.gain_bits > 0 ? static_cast<std::uint32_t>(best.gain_bits) : 0;
            // Lazy: a match is passed over for one that begins one or two positions later and saves more.
            const std::uint32_t next_gain = env_.shfl(warp, gain, lane + 1 < lanes ? lane + 1 : lane);
            const std::uint32_t second_gain = env_.shfl(warp, gain, lane + 2 < lanes ? lane + 2 : lane);
            const LaneMask choices = env_.ballot(warp, gain != 0 && next_gain <= gain && second_gain <= gain);
            if (choices == 0) break;
            const unsigned chosen = lowest_bit(choices);
            const std::uint64_t packed =
                env_.shfl(warp, static_cast<std::uint64_t>(best.offset) << 32 | best.length, chosen);
            const auto offset = static_cast<std::uint32_t>(packed >> 32);
            auto length = static_cast<std::uint32_t>(packed);
            std::uint32_t start = base + chosen;
            if (length >= lane_compare_bytes) length = extend_forward(start, offset, length);
            const std::uint32_t back = extend_backward(start, offset);
            start -= back;
            if (!emit(start, length + back, offset)) return false;
            from = anchor_ - base;
        }
        base += lanes;
        if (anchor_ > base) {
            const std::uint32_t end = anchor_ <= limit ? anchor_ : limit + 1;
            for (std::uint32_t inside = base + lane; inside < end; inside += lanes)
                insert(inside);
            base = anchor_;
        }
        env_.sync(warp);
    }
    return true;
}

} // namespace cuda_zstd::detail
