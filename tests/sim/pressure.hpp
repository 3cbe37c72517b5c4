// SPDX-License-Identifier: MIT
// What null with `full` must mean beside other calls: at some moment of the call no slot and no run for the size
// existed. A bound on the pages that can have been in use at any moment of a call.
// Invariant: `in_use` counts the pages of live blocks, and of blocks that a call under way may have or may still take.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace cuda_zstd::test {

/// Each live block may pin a page of its own, or its run; nothing else does.
class Pressure {
public:
    void reset(std::size_t threads) {
        in_use_ = 0;
        peaks_.assign(threads, 0);
        inside_.assign(threads, false);
    }
    void begin_allocation(unsigned thread, unsigned pages) {
        inside_[thread] = true;
        peaks_[thread] = 0;
        in_use_ += pages;
        for (std::size_t other = 0; other < peaks_.size(); ++other)
            if (inside_[other]) peaks_[other] = std::max(peaks_[other], in_use_);
    }
    /// Returns the most pages during the call, those that it asked for among them.
    unsigned end_allocation(unsigned thread, unsigned pages, const void* block) {
        if (block == nullptr) in_use_ -= pages;
        inside_[thread] = false;
        return peaks_[thread];
    }
    void end_free(unsigned pages) { in_use_ -= pages; }

private:
    unsigned in_use_ = 0;
    std::vector<unsigned> peaks_;
    std::vector<char> inside_;
};

} // namespace cuda_zstd::test
