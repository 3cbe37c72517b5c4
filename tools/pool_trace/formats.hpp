// SPDX-License-Identifier: MIT
// Other programs' formats.
// Invariant: text that one of these functions has written is read back by its partner to the same trace, as far as the
// format can tell it, and then written again to the same text.
#pragma once

#include "trace_file.hpp"

#include <string>
#include <string_view>

namespace pool_trace {

/// RMM's log and replay format: Thread,Time,Action,Pointer,Size,Stream. It has allocations and frees only; times of day
/// to the microsecond. Frees name their block's size.
std::string to_rmm_csv(const Trace& trace);
/// Throws `TraceError` with the offset of the line that cannot be read.
Trace from_rmm_csv(std::string_view text);

/// The trace event format that Perfetto and chrome://tracing open: calls as slices of their threads, bytes as counters.
/// The slices' arguments hold every field, so nothing is lost.
std::string to_chrome_json(const Trace& trace);
/// Throws std::runtime_error for what `to_chrome_json` has not written.
Trace from_chrome_json(std::string_view text);

} // namespace pool_trace
