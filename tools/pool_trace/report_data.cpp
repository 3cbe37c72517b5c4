// SPDX-License-Identifier: MIT
#include "live_blocks.hpp"
#include "report.hpp"
#include "summary.hpp"
#include "units.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <stdexcept>

namespace pool_trace {

using nlohmann::json;

namespace {

constexpr std::size_t most_points = 2000;
constexpr std::uint64_t arena_gap_bytes = std::uint64_t{64} << 20;

std::string in_mebibytes(std::uint64_t bytes) { return fmt::format("{:.1f} MiB", mebibytes(bytes)); }

/// [ns, bytes in use, bytes mapped] at most `most_points` times: of each stretch of time the moment with most in use.
json over_time(const Trace& trace, std::uint64_t end_ns) {
    struct Point {
        std::uint64_t ns = 0, live = 0, mapped = 0;
    };
    std::vector<Point> points;
    LiveBlocks<std::uint64_t> blocks;
    std::uint64_t live = 0, mapped = 0;
    const std::uint64_t step = end_ns / most_points + 1;
    std::uint64_t bucket = ~std::uint64_t{0};
    for (const Event& event : trace.events) {
        if (!succeeded(event.outcome)) continue;
        blocks.follow(
            event,
            [&] {
                live += event.bytes;
                return event.bytes;
            },
            [&](std::uint64_t bytes) { live -= bytes; });
        if (event.call == Call::capacity) mapped = event.bytes;
        const std::uint64_t now = order_of(event);
        if (now / step != bucket) {
            bucket = now / step;
            points.push_back({now, live, mapped});
        } else if (live >= points.back().live) {
            points.back() = {now, live, mapped};
        }
    }
    points.push_back({end_ns, live, mapped});
    json series = json::array();
    for (const Point& point : points)
        series.push_back({point.ns, point.live, point.mapped});
    return series;
}

/// Blocks that are live at a moment, as the snapshot's rows, and ranges of addresses that hold them.
void blocks_at(const std::vector<Life>& all, std::uint64_t ns, json& data) {
    std::vector<const Life*> there;
    for (const Life& life : all)
        if (life.begin_ns <= ns && (!life.end_ns || *life.end_ns > ns)) there.push_back(&life);
    std::sort(there.begin(), there.end(), [](const Life* a, const Life* b) { return a->pointer < b->pointer; });
    json live = json::array();
    json arenas = json::array();
    std::uint64_t base = 0, end = 0;
    const auto close = [&] {
        if (end > base) arenas.push_back({{"base", base}, {"bytes", end - base}, {"unmapped", json::array()}});
    };
    for (const Life* life : there) {
        if (life->pointer > end + arena_gap_bytes || end == 0) {
            close();
            base = life->pointer;
        }
        end = std::max(end, life->pointer + life->bytes);
        live.push_back(
            {life->pointer, life->bytes, life->bytes, 0, life->stream, live.size() + 1, ns - life->begin_ns});
    }
    close();
    data["arenas"] = std::move(arenas);
    data["live"] = std::move(live);
    data["free"] = json::array();
    data["sites"] = json::object();
}

void add_trace(const Trace& trace, json& data, std::vector<std::string>& advice) {
    const auto pools = summarize(trace);
    const PoolSummary pool = pools.empty() ? PoolSummary{} : pools.begin()->second;
    const std::uint64_t end_ns = trace.events.empty() ? 0 : trace.events.back().end;
    data["over_time"] = over_time(trace, end_ns);
    std::map<unsigned, std::uint64_t> lifetimes;
    const auto all = lives(trace);
    for (const Life& life : all)
        if (life.end_ns) ++lifetimes[power_of_two(*life.end_ns - life.begin_ns)];
    data["sizes"] = pool.allocations_by_size;
    data["lifetimes"] = lifetimes;
    data["figures"] = {{"calls", trace.events.size()},
                       {"allocations", pool.allocations},
                       {"hits", pool.hits},
                       {"out of memory", pool.out_of_memory},
                       {"live at most", in_mebibytes(pool.peak_live_bytes)},
                       {"mapped at most", in_mebibytes(pool.peak_mapped_bytes)},
                       {"blocks at the end", pool.live_blocks}};
    if (!data.contains("live")) {
        blocks_at(all, pool.peak_live_ns, data);
        data["moment"] = fmt::format("when most was in use, {:.6f} s after the trace began",
                                     static_cast<double>(pool.peak_live_ns) / 1e9);
    }
    if (!trace.cut.empty()) advice.push_back("The trace is cut: " + trace.cut + ".");
    if (pool.allocations != 0 && pool.hits * 10 < pool.allocations * 9)
        advice.push_back(
            fmt::format("Only {:.0f} % of the allocations were hits. CUDA_ZSTD_POOL_INITIAL_SIZE={} maps at "
                        "the start what the pool had to map in the end.",
                        percent(pool.hits, pool.allocations), pool.peak_mapped_bytes));
    if (pool.peak_live_bytes != 0 && pool.peak_mapped_bytes > pool.peak_live_bytes * 3 / 2)
        advice.push_back(
            fmt::format("{} were mapped for {} in use at most, {:.1f} times as much. pool-trace advise says "
                        "with which strategy and limit the program would have done with less.",
                        in_mebibytes(pool.peak_mapped_bytes), in_mebibytes(pool.peak_live_bytes),
                        static_cast<double>(pool.peak_mapped_bytes) / static_cast<double>(pool.peak_live_bytes)));
    if (pool.out_of_memory != 0)
        advice.push_back(fmt::format("{} allocations found no memory. Raise CUDA_ZSTD_POOL_MAX_SIZE, or free earlier: "
                                     "{} were in use at most.",
                                     pool.out_of_memory, in_mebibytes(pool.peak_live_bytes)));
    if (pool.refused != 0)
        advice.push_back(fmt::format("{} calls were refused as wrong: pool-trace print shows which.", pool.refused));
    if (pool.live_blocks != 0)
        advice.push_back(fmt::format("{} blocks of {} in all are never freed. CUDA_ZSTD_POOL_TRACK=all names the calls "
                                     "that allocated them.",
                                     pool.live_blocks, in_mebibytes(pool.live_bytes)));
}

void add_snapshot(const std::string& text, json& data, std::vector<std::string>& advice) {
    const json snapshot = json::parse(text);
    if (snapshot.value("format", "") != "cuda_zstd pool snapshot 1")
        throw std::runtime_error("this is no snapshot of a CUDA-ZSTD memory pool");
    for (const char* key : {"arenas", "live", "free", "sites"})
        data[key] = snapshot.at(key);
    const json& statistics = snapshot.at("statistics");
    const auto figure = [&](const char* name) { return statistics.at(name).get<std::uint64_t>(); };
    const double fragmentation = statistics.at("fragmentation").get<double>();
    data["moment"] = "when the snapshot was written";
    data["snapshot_figures"] = {{"strategy", snapshot.at("strategy")},
                                {"in use", in_mebibytes(figure("allocated_bytes"))},
                                {"mapped", in_mebibytes(figure("capacity_bytes"))},
                                {"free", in_mebibytes(figure("free_bytes"))},
                                {"largest free block", in_mebibytes(figure("largest_free_block_bytes"))},
                                {"fragmentation", fmt::format("{:.1f} %", 100 * fragmentation)},
                                {"live blocks", figure("live_blocks")},
                                {"free blocks", figure("free_blocks")}};
    std::map<unsigned, std::uint64_t> sizes;
    for (const json& block : data["live"])
        ++sizes[power_of_two(block.at(1).get<std::uint64_t>())];
    data["sizes"] = sizes;
    if (fragmentation > 0.5 && figure("free_bytes") > figure("capacity_bytes") / 4)
        advice.push_back(fmt::format("{} are free, but the largest piece has {}: a larger request would map more. "
                                     "CUDA_ZSTD_POOL_STRATEGY=first-fit keeps blocks together at low addresses; blocks "
                                     "that live long are best allocated first.",
                                     in_mebibytes(figure("free_bytes")),
                                     in_mebibytes(figure("largest_free_block_bytes"))));
    if (figure("live_block_bytes") > figure("allocated_bytes") * 5 / 4)
        advice.push_back(fmt::format("Blocks cover {} for {} that were asked for: many sizes are just above a size "
                                     "class. Sizes near the class below would save the rest.",
                                     in_mebibytes(figure("live_block_bytes")),
                                     in_mebibytes(figure("allocated_bytes"))));
    if (figure("failed_allocations") != 0)
        advice.push_back(fmt::format("{} allocations found no memory.", figure("failed_allocations")));
}

} // namespace

json report_data(const ReportInput& input) {
    json data;
    std::vector<std::string> advice;
    if (!input.snapshot.empty()) add_snapshot(input.snapshot, data, advice);
    if (input.trace) add_trace(*input.trace, data, advice);
    if (advice.empty()) advice.emplace_back("Nothing stands out: calls hit, little is mapped in vain, nothing failed.");
    data["advice"] = advice;
    data["title"] = input.title;
    return data;
}

} // namespace pool_trace
