// SPDX-License-Identifier: MIT
// What a caller says about a compaction.
// Invariant: plain data; the defaults are right beside anything that kernels of other streams do.
#pragma once

#include <cstdint>

namespace cuda_zstd {

/// Compaction of all that there is.
inline constexpr std::uint32_t whole_heap = 0xffffffffu;

struct Compaction {
    enum class Form : unsigned char {
        /// Beside kernels that allocate and free: list by list.
        online,
        /// The caller promises that nobody allocates from the pool or frees to it while the compaction runs: all
        /// lists are made anew. Faster, and the order is that of the whole heap.
        quiet
    };
    Form form = Form::online;
    /// Most slabs that an online compaction puts in order; the next one goes on behind them. 0 is refused. A quiet one
    /// takes no budget.
    std::uint32_t budget_slabs = whole_heap;
};

} // namespace cuda_zstd
