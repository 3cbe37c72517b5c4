// SPDX-License-Identifier: MIT
// What a trace says, in lines and in figures.
// Invariant: every figure follows from the events alone; a block is known by its address between its allocation and its
// free or the pool's reset.
#pragma once

#include "trace_file.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace pool_trace {

/// A block's life, as far as the trace knows it.
struct Life {
    std::uint32_t pool = 0;
    std::uint64_t pointer = 0;
    std::uint64_t bytes = 0;
    std::uint64_t stream = 0;
    std::uint64_t thread = 0;
    std::uint64_t begin_ns = 0;
    /// Of the free; none where the trace ends first.
    std::optional<std::uint64_t> end_ns;
};

/// Every block that the trace sees allocated, in that order. O(events).
std::vector<Life> lives(const Trace& trace);

struct PoolSummary {
    std::uint64_t allocations = 0;
    std::uint64_t hits = 0;
    std::uint64_t frees = 0;
    std::uint64_t out_of_memory = 0;
    std::uint64_t refused = 0;
    std::uint64_t failed = 0;
    std::uint64_t live_bytes = 0;
    std::uint64_t live_blocks = 0;
    std::uint64_t peak_live_bytes = 0;
    std::uint64_t peak_live_ns = 0;
    std::uint64_t mapped_bytes = 0;
    std::uint64_t peak_mapped_bytes = 0;
    std::uint64_t most_blocks = 0;
    /// Frees of blocks that the trace has not seen allocated.
    std::uint64_t unknown_frees = 0;
    std::map<std::uint64_t, std::uint64_t> allocations_by_stream;
    std::map<std::uint64_t, std::uint64_t> allocations_by_thread;
    /// By the power of two that the size is rounded up to.
    std::map<unsigned, std::uint64_t> allocations_by_size;
    /// Nanoseconds a call, sorted.
    std::vector<std::uint64_t> allocate_ns;
    std::vector<std::uint64_t> free_ns;
};

std::map<std::uint32_t, PoolSummary> summarize(const Trace& trace);
std::string to_text(const Trace& trace, const std::map<std::uint32_t, PoolSummary>& pools);
std::string to_json(const Trace& trace, const std::map<std::uint32_t, PoolSummary>& pools);
/// One line for a call.
std::string to_line(const Event& event);

} // namespace pool_trace
