// SPDX-License-Identifier: MIT
// The search of a warp of one: one position after the other, each compared with the next before it is taken.
// Invariant: as in match_finder.hpp; positions grow, and every position that was looked at is in the tables.
#pragma once

#include "match_finder.hpp"

namespace cuda_zstd::detail {

template <class Env, class Pool>
CUDA_ZSTD_HD bool MatchFinder<Env, Pool>::search_scalar() {
    const std::uint32_t limit = bytes_ - 8;
    const std::uint32_t whole = bytes_;
    const auto find = [&](std::uint32_t position) {
        const std::uint64_t bytes = load64(input_ + position);
        auto& few = tables_.few[hash_few(bytes)];
        auto& many = tables_.many[hash_many(bytes)];
        const std::uint32_t near_candidate = few;
        const std::uint32_t far_candidate = many;
        few = static_cast<typename Tables::Entry>(position);
        many = static_cast<typename Tables::Entry>(position);
        Match best;
        consider_repeated(best, position, bytes, whole);
        consider_position(best, position, bytes, far_candidate, whole);
        if (near_candidate != far_candidate) consider_position(best, position, bytes, near_candidate, whole);
        return best;
    };
    std::uint32_t position = 1;
    while (position <= limit) {
        Match best = find(position);
        if (best.gain_bits <= 0) {
            position += 1 + ((position - anchor_) >> skip_log);
            continue;
        }
        std::uint32_t start = position;
        while (position < limit) {
            const Match later = find(++position);
            if (later.gain_bits <= best.gain_bits) break;
            best = later;
            start = position;
        }
        while (start > anchor_ && start > best.offset && input_[start - 1] == input_[start - 1 - best.offset]) {
            --start;
            ++best.length;
        }
        if (!emit(start, best.length, best.offset)) return false;
        const std::uint32_t end = start + best.length;
        const std::uint32_t last = end < limit ? end : limit;
        for (++position; position < last; ++position)
            insert(position);
        position = end > position ? end : position;
    }
    return true;
}

} // namespace cuda_zstd::detail
