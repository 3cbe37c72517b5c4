// SPDX-License-Identifier: MIT
#include "summary.hpp"

#include "live_blocks.hpp"
#include "units.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>

namespace pool_trace {
namespace {

std::uint64_t quantile(const std::vector<std::uint64_t>& sorted, double share) {
    if (sorted.empty()) return 0;
    return sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(share * static_cast<double>(sorted.size())))];
}

} // namespace

std::vector<Life> lives(const Trace& trace) {
    std::vector<Life> all;
    LiveBlocks<std::size_t> live;
    for (const Event& event : trace.events)
        live.follow(
            event,
            [&] {
                all.push_back({event.pool, event.pointer, event.bytes, event.stream, event.thread, event.end, {}});
                return all.size() - 1;
            },
            [&](std::size_t index) { all[index].end_ns = is_free(event.call) ? event.begin : event.end; });
    return all;
}

namespace {

void add_allocation(PoolSummary& pool, const Event& event) {
    ++pool.allocations;
    pool.hits += event.outcome == Outcome::done;
    pool.live_bytes += event.bytes;
    if (pool.live_bytes > pool.peak_live_bytes) {
        pool.peak_live_bytes = pool.live_bytes;
        pool.peak_live_ns = event.end;
    }
    ++pool.allocations_by_stream[event.stream];
    ++pool.allocations_by_thread[event.thread];
    ++pool.allocations_by_size[power_of_two(event.bytes)];
    pool.allocate_ns.push_back(event.end - event.begin);
}

} // namespace

std::map<std::uint32_t, PoolSummary> summarize(const Trace& trace) {
    std::map<std::uint32_t, PoolSummary> pools;
    LiveBlocks<std::uint64_t> live;
    for (const Event& event : trace.events) {
        PoolSummary& pool = pools[event.pool];
        pool.out_of_memory += event.outcome == Outcome::out_of_memory;
        pool.refused += event.outcome == Outcome::refused;
        pool.failed += event.outcome == Outcome::failed;
        if (!succeeded(event.outcome)) continue;
        const bool is_known = live.follow(
            event, [&] { return event.bytes; }, [&](std::uint64_t bytes) { pool.live_bytes -= bytes; });
        if (is_allocation(event.call)) {
            add_allocation(pool, event);
        } else if (is_free(event.call)) {
            ++pool.frees;
            pool.free_ns.push_back(event.end - event.begin);
            pool.unknown_frees += !is_known;
        } else if (event.call == Call::capacity) {
            pool.mapped_bytes = event.bytes;
            pool.peak_mapped_bytes = std::max(pool.peak_mapped_bytes, event.bytes);
        }
        pool.live_blocks = live.count(event.pool);
        pool.most_blocks = std::max(pool.most_blocks, pool.live_blocks);
    }
    for (auto& [number, pool] : pools) {
        std::sort(pool.allocate_ns.begin(), pool.allocate_ns.end());
        std::sort(pool.free_ns.begin(), pool.free_ns.end());
    }
    return pools;
}

std::string to_text(const Trace& trace, const std::map<std::uint32_t, PoolSummary>& pools) {
    std::string text;
    const auto to = std::back_inserter(text);
    const std::uint64_t end_ns = trace.events.empty() ? 0 : trace.events.back().end;
    fmt::format_to(to, "{} events in {:.6f} s of process {}\n", trace.events.size(), static_cast<double>(end_ns) / 1e9,
                   trace.process);
    for (const auto& [number, pool] : pools) {
        fmt::format_to(to, "pool {}\n", number);
        fmt::format_to(to, "  allocations          {} ({} hits, {:.1f} %), {} frees, {} blocks live at the end\n",
                       pool.allocations, pool.hits, percent(pool.hits, pool.allocations), pool.frees, pool.live_blocks);
        fmt::format_to(to, "  out of memory        {}, refused {}, failed {}\n", pool.out_of_memory, pool.refused,
                       pool.failed);
        fmt::format_to(
            to,
            "  bytes                {:.2f} MiB live at most (at {:.6f} s, {} blocks at most), {:.2f} MiB at the end\n",
            mebibytes(pool.peak_live_bytes), static_cast<double>(pool.peak_live_ns) / 1e9, pool.most_blocks,
            mebibytes(pool.live_bytes));
        fmt::format_to(to, "  mapped               {:.2f} MiB at most, {:.2f} MiB at the end\n",
                       mebibytes(pool.peak_mapped_bytes), mebibytes(pool.mapped_bytes));
        fmt::format_to(to, "  streams, threads     {}, {}\n", pool.allocations_by_stream.size(),
                       pool.allocations_by_thread.size());
        fmt::format_to(to, "  allocate, ns         median {}, 99 % {}, most {}\n", quantile(pool.allocate_ns, 0.5),
                       quantile(pool.allocate_ns, 0.99), quantile(pool.allocate_ns, 1));
        fmt::format_to(to, "  deallocate, ns       median {}, 99 % {}, most {}\n", quantile(pool.free_ns, 0.5),
                       quantile(pool.free_ns, 0.99), quantile(pool.free_ns, 1));
        for (const auto& [bits, count] : pool.allocations_by_size)
            fmt::format_to(to, "  up to {:>14} B   {}\n", std::uint64_t{1} << bits, count);
        if (pool.unknown_frees != 0)
            fmt::format_to(to, "  {} frees of blocks from before the trace\n", pool.unknown_frees);
    }
    if (!trace.cut.empty()) fmt::format_to(to, "The trace is cut: {}.\n", trace.cut);
    return text;
}

std::string to_json(const Trace& trace, const std::map<std::uint32_t, PoolSummary>& pools) {
    nlohmann::json json;
    json["events"] = trace.events.size();
    json["process"] = trace.process;
    json["cut"] = trace.cut;
    for (const auto& [number, pool] : pools) {
        nlohmann::json each = {{"pool", number},
                               {"allocations", pool.allocations},
                               {"hits", pool.hits},
                               {"frees", pool.frees},
                               {"out_of_memory", pool.out_of_memory},
                               {"refused", pool.refused},
                               {"failed", pool.failed},
                               {"live_bytes", pool.live_bytes},
                               {"live_blocks", pool.live_blocks},
                               {"peak_live_bytes", pool.peak_live_bytes},
                               {"mapped_bytes", pool.mapped_bytes},
                               {"peak_mapped_bytes", pool.peak_mapped_bytes},
                               {"unknown_frees", pool.unknown_frees},
                               {"allocate_ns_median", quantile(pool.allocate_ns, 0.5)},
                               {"deallocate_ns_median", quantile(pool.free_ns, 0.5)}};
        json["pools"].push_back(std::move(each));
    }
    return json.dump(2) + "\n";
}

std::string to_line(const Event& event) {
    std::string line = fmt::format("{:>16.9f}  thread {}  pool {}  {}", static_cast<double>(event.begin) / 1e9,
                                   event.thread, event.pool, name_of(event.call));
    const auto to = std::back_inserter(line);
    if (!is_free(event.call) && event.call != Call::pool_end && event.call != Call::reset)
        fmt::format_to(to, "  {} bytes", event.bytes);
    if (is_allocation(event.call) && event.alignment != 256) fmt::format_to(to, "  alignment {}", event.alignment);
    if (is_allocation(event.call) || is_free(event.call))
        fmt::format_to(to, "  {:#x}  stream {}", event.pointer, event.stream);
    fmt::format_to(to, "  {}  {} ns", name_of(event.outcome), event.end - event.begin);
    return line;
}

} // namespace pool_trace
