// SPDX-License-Identifier: MIT
// What `full` may mean beside other calls: a bound on the pages that can have been in use at any moment of a call.
// Invariant: `in_use` counts the pages of live blocks, and of blocks that a call under way may have or may still take.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace cuda_zstd::test {

/// How strictly null with `full` is judged.
enum class FullRule : unsigned char {
    /// A call that is under way, a free too, may keep two pages out of everybody's sight.
    allows_for_hands,
    /// A call may take what it asks for, and nothing is ever out of sight: null with `full` only if at some moment of
    /// the call no slot and no run for the size existed.
    exact,
};
/// What the heap promises now.
inline constexpr FullRule default_full_rule = FullRule::exact;

/// Each live block may pin a page of its own, or its run.
class Pressure {
public:
    void reset(std::size_t threads, FullRule rule) {
        rule_ = rule;
        in_use_ = 0;
        peaks_.assign(threads, 0);
        inside_.assign(threads, false);
    }
    void begin_allocation(unsigned thread, unsigned pages) {
        inside_[thread] = true;
        peaks_[thread] = 0;
        in_use_ += rule_ == FullRule::exact ? pages : hands;
        note();
    }
    /// Returns the most pages during the call, those that it asked for among them.
    unsigned end_allocation(unsigned thread, unsigned pages, const void* block) {
        if (rule_ == FullRule::allows_for_hands && block != nullptr) in_use_ += pages;
        note();
        if (rule_ == FullRule::allows_for_hands) in_use_ -= hands;
        if (rule_ == FullRule::exact && block == nullptr) in_use_ -= pages;
        inside_[thread] = false;
        return peaks_[thread];
    }
    void begin_free() {
        if (rule_ == FullRule::allows_for_hands) in_use_ += hands;
        note();
    }
    void end_free(unsigned pages) {
        in_use_ -= pages;
        if (rule_ == FullRule::allows_for_hands) in_use_ -= hands;
    }

private:
    static constexpr unsigned hands = 2;

    void note() {
        for (std::size_t thread = 0; thread < peaks_.size(); ++thread)
            if (inside_[thread]) peaks_[thread] = std::max(peaks_[thread], in_use_);
    }
    FullRule rule_ = default_full_rule;
    unsigned in_use_ = 0;
    std::vector<unsigned> peaks_;
    std::vector<char> inside_;
};

} // namespace cuda_zstd::test
