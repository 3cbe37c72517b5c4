// SPDX-License-Identifier: MIT
// A page that shows a pool: one HTML file that needs nothing but a browser.
// Invariant: the page loads nothing from anywhere; all that it shows is in it.
#pragma once

#include "trace_file.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace pool_trace {

/// What the page shows; at least one of both.
struct ReportInput {
    /// One pool's events.
    std::optional<Trace> trace;
    /// What MemoryPoolManager::write_snapshot() wrote.
    std::string snapshot;
    std::string title;
};

/// Throws std::runtime_error for a snapshot that is none.
std::string report_page(const ReportInput& input);
/// The figures and sentences behind the page, as it embeds them.
nlohmann::json report_data(const ReportInput& input);

} // namespace pool_trace
