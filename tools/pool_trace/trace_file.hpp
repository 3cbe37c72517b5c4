// SPDX-License-Identifier: MIT
// A trace in memory: events in the order of the calls, times in nanoseconds since the trace began.
// Invariant: what `parse` returns came from bytes whose checksums hold, but for the whole records of a last block that
// the file's end cuts off.
#pragma once

#include "cuda_zstd/host/trace_format.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace pool_trace {

using cuda_zstd::trace::Call;
using cuda_zstd::trace::Event;
using cuda_zstd::trace::Outcome;

/// A file that is no sound trace.
class TraceError : public std::runtime_error {
public:
    TraceError(std::size_t offset, const std::string& what)
        : std::runtime_error("at byte " + std::to_string(offset) + ": " + what), offset_(offset) {}
    std::size_t offset() const noexcept { return offset_; }

private:
    std::size_t offset_;
};

struct Trace {
    std::vector<Event> events;
    std::uint64_t start_unix_ns = 0;
    std::uint64_t process = 0;
    /// Not empty where the file ends too early: what was read and what was not.
    std::string cut;
};

/// Throws `TraceError` for bytes that are corrupt; a trace that only ends early is returned with `cut` set.
Trace parse(std::span<const unsigned char> bytes);
/// A trace of our own format whose events keep their order. `parse` gives them back exactly.
std::vector<unsigned char> serialize(const Trace& trace);

/// Throws std::runtime_error where the file cannot be read or written whole. "-" is stdin or stdout.
std::vector<unsigned char> read_bytes(const std::string& path);
void write_bytes(const std::string& path, std::span<const unsigned char> bytes);

const char* name_of(Call call) noexcept;
const char* name_of(Outcome outcome) noexcept;
/// The reverse; throws std::runtime_error for what is no name.
Call call_named(const std::string& name);
Outcome outcome_named(const std::string& name);

} // namespace pool_trace
