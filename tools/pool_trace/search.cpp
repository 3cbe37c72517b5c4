// SPDX-License-Identifier: MIT
// Which strategy and which size would have served a program best.
#include "replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace pool_trace {

using namespace cuda_zstd;

namespace {

constexpr std::uint64_t unit_bytes = std::uint64_t{2} << 20;
constexpr std::uint64_t machine_bytes = std::uint64_t{1} << 40;

std::uint64_t round_up(std::uint64_t bytes) { return (bytes + unit_bytes - 1) / unit_bytes * unit_bytes; }

ReplayResult run(const std::vector<Event>& events, Strategy strategy, std::uint64_t limit_bytes) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.strategy = strategy;
    options.growth = Growth::exact;
    options.max_bytes = limit_bytes;
    options.custom_source = make_phantom_source(limit_bytes == 0 ? machine_bytes : limit_bytes);
    return replay(events, options);
}

} // namespace

std::vector<Candidate> search(const std::vector<Event>& events) {
    std::vector<Candidate> candidates;
    for (const Strategy strategy : {Strategy::best_fit, Strategy::first_fit, Strategy::segregated}) {
        Candidate candidate;
        candidate.strategy = strategy;
        candidate.unlimited = run(events, strategy, 0);
        // What is live must fit; what was mapped without a limit is known to do.
        std::uint64_t low = std::max(unit_bytes, round_up(candidate.unlimited.peak_live_bytes)) / unit_bytes;
        std::uint64_t high = std::max(low, round_up(candidate.unlimited.peak_mapped_bytes) / unit_bytes);
        candidate.at_least = run(events, strategy, high * unit_bytes);
        candidate.least_bytes = high * unit_bytes;
        while (low < high) {
            const std::uint64_t middle = low + (high - low) / 2;
            const ReplayResult result = run(events, strategy, middle * unit_bytes);
            if (result.failures <= candidate.unlimited.failures) {
                high = middle;
                candidate.least_bytes = middle * unit_bytes;
                candidate.at_least = result;
            } else {
                low = middle + 1;
            }
        }
        candidates.push_back(candidate);
    }
    return candidates;
}

std::string advice(const std::vector<Candidate>& candidates) {
    const auto best = std::min_element(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
        return std::tuple(a.at_least.failures, a.least_bytes, a.at_least.growths) <
               std::tuple(b.at_least.failures, b.least_bytes, b.at_least.growths);
    });
    if (best == candidates.end()) return "No strategy was tried.\n";
    if (best->unlimited.allocations == 0) return "The trace allocates nothing.\n";
    const std::uint64_t live_bytes = best->unlimited.peak_live_bytes;
    return fmt::format("Best: CUDA_ZSTD_POOL_STRATEGY={} with CUDA_ZSTD_POOL_MAX_SIZE={} serves every call; that is "
                       "{:.2f} times the {} bytes that are live at most. CUDA_ZSTD_POOL_INITIAL_SIZE={} saves the "
                       "{} growths on the way.\n",
                       to_string(best->strategy), best->least_bytes,
                       static_cast<double>(best->least_bytes) /
                           static_cast<double>(std::max<std::uint64_t>(live_bytes, 1)),
                       live_bytes, best->at_least.peak_mapped_bytes, best->at_least.growths);
}

} // namespace pool_trace
