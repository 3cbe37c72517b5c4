// SPDX-License-Identifier: MIT
// What a simulated schedule did, as text: operations, cells by name, and where each of them stands in the source.
// Invariant: nothing printed depends on an address, so that two runs of one seed print the same bytes.
#pragma once

#include "cuda_zstd/env/environment.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace cuda_zstd::sim {

/// A place in the source that called an environment.
struct Site {
    const char* file = "";
    int line = 0;
    static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
        return {file, line};
    }
    bool operator==(const Site& other) const noexcept {
        return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
    }
};

/// What a lane does at a step. The collectives come last.
enum class Op : std::uint8_t {
    load,
    store,
    exchange,
    compare_exchange,
    fetch_add,
    fetch_sub,
    fetch_or,
    fetch_and,
    fetch_min,
    pause,
    note,
    exit,
    converged,
    match_any,
    ballot,
    shfl,
    sync,
    reduce_or,
    warp_sum,
    warp_exclusive_sum,
    warp_max,
};

inline const char* name_of(Op op) noexcept {
    static constexpr const char* names[] = {"load",      "store",     "exchange", "compare_exchange",
                                            "fetch_add", "fetch_sub", "fetch_or", "fetch_and",
                                            "fetch_min", "pause",     "note",     "exit",
                                            "converged", "match_any", "ballot",   "shfl",
                                            "sync",      "reduce_or", "warp_sum", "warp_exclusive_sum",
                                            "warp_max"};
    return names[static_cast<unsigned>(op)];
}

/// One line of a trace. `text` is set for notes only; a collective has its mask in `before`, its result in `after`.
struct Event {
    std::uint64_t step = 0;
    unsigned thread = 0;
    Op op = Op::note;
    const void* cell = nullptr;
    std::uint64_t before = 0;
    std::uint64_t after = 0;
    Site site;
    std::string text = {};
};

/// Names for cells. A cell without one is numbered in the order of its first appearance in the trace.
class CellNames {
public:
    /// Cells at `first`, `first + stride_bytes`, ...: printed as `name[index]`, or `name` when there is one only.
    void add(std::string name, const void* first, std::size_t count, std::size_t stride_bytes) {
        ranges_.push_back({std::move(name), static_cast<const char*>(first), count, stride_bytes});
    }
    void clear() { ranges_.clear(); }

    std::string of(const void* cell, std::vector<const void*>& unnamed) const {
        for (const Range& range : ranges_) {
            const auto offset = static_cast<std::size_t>(static_cast<const char*>(cell) - range.first);
            if (static_cast<const char*>(cell) < range.first || offset >= range.count * range.stride_bytes) continue;
            if (range.count == 1) return range.name;
            return range.name + "[" + std::to_string(offset / range.stride_bytes) + "]";
        }
        std::size_t number = 0;
        while (number < unnamed.size() && unnamed[number] != cell)
            ++number;
        if (number == unnamed.size()) unnamed.push_back(cell);
        return "cell#" + std::to_string(number);
    }

private:
    struct Range {
        std::string name;
        const char* first;
        std::size_t count;
        std::size_t stride_bytes;
    };
    std::vector<Range> ranges_;
};

inline std::string format_site(Site site) {
    const char* slash = std::strrchr(site.file, '/');
    return std::string(slash != nullptr ? slash + 1 : site.file) + ":" + std::to_string(site.line);
}

/// As it happened, or all of one lane after all of another.
enum class TraceOrder : std::uint8_t { by_time, by_lane };

/// The trace as text, one event a line: `warp.lane #step operation cell old -> new (file:line)`.
inline std::string format_trace(std::vector<Event> events, const CellNames& names, unsigned warp_lanes,
                                TraceOrder order = TraceOrder::by_time) {
    if (order == TraceOrder::by_lane)
        std::stable_sort(events.begin(), events.end(),
                         [](const Event& a, const Event& b) { return a.thread < b.thread; });
    std::string text;
    std::vector<const void*> unnamed;
    char buffer[160];
    for (const Event& event : events) {
        std::snprintf(buffer, sizeof buffer, "w%u.l%02u #%-6llu %-18s ", event.thread / warp_lanes,
                      event.thread % warp_lanes, static_cast<unsigned long long>(event.step), name_of(event.op));
        text += buffer;
        if (event.op == Op::note) {
            text += event.text;
        } else if (event.op >= Op::converged) {
            std::snprintf(buffer, sizeof buffer, "mask %08llx -> 0x%llx", static_cast<unsigned long long>(event.before),
                          static_cast<unsigned long long>(event.after));
            text += buffer;
        } else if (event.cell != nullptr) {
            std::snprintf(buffer, sizeof buffer, " 0x%llx -> 0x%llx", static_cast<unsigned long long>(event.before),
                          static_cast<unsigned long long>(event.after));
            text += names.of(event.cell, unnamed) + buffer;
        }
        if (event.site.line != 0) text += " (" + format_site(event.site) + ")";
        text += '\n';
    }
    return text;
}

} // namespace cuda_zstd::sim
