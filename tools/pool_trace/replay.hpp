// SPDX-License-Identifier: MIT
// Runs a trace's calls again, one after the other, against a pool that may be configured otherwise.
//
// Invariant: the figures but `call_ns` follow from the trace and the options alone. With addresses only (`phantom`) no
// memory is touched, so a trace of a large GPU replays on a laptop; all work counts as done when its block is freed.
#pragma once

#include "cuda_zstd_memory_pool_enhanced.h"
#include "trace_file.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace pool_trace {

struct ReplayResult {
    std::uint64_t allocations = 0;
    std::uint64_t hits = 0;
    /// Allocations that were served in the trace and are not here.
    std::uint64_t failures = 0;
    std::uint64_t peak_live_bytes = 0;
    std::uint64_t peak_mapped_bytes = 0;
    std::uint64_t growths = 0;
    std::uint64_t returns = 0;
    std::uint64_t device_waits = 0;
    /// Of the free memory when most was mapped and live: 1 - largest free block / free bytes.
    double fragmentation_at_peak = 0;
    /// Nanoseconds a call; differs from run to run.
    double call_ns = 0;
};

/// Addresses without memory, of which `total_bytes` can be "mapped".
std::shared_ptr<cuda_zstd::ArenaSource> make_phantom_source(std::size_t total_bytes);

/// What can be replayed against.
enum class Subject { pool, cuda_malloc_async, cuda_malloc };

/// The events of one pool of the trace.
std::vector<Event> events_of(const Trace& trace, std::uint32_t pool);
/// The pool with most events.
std::uint32_t busiest_pool(const Trace& trace);

/// Replays against a pool of these options.
ReplayResult replay(const std::vector<Event>& events, const cuda_zstd::PoolOptions& options);
/// Replays against the CUDA runtime's own allocators; needs a device. Throws std::runtime_error where there is none.
ReplayResult replay_cuda(const std::vector<Event>& events, Subject subject);

/// How a strategy would have served the program.
struct Candidate {
    cuda_zstd::Strategy strategy = cuda_zstd::Strategy::best_fit;
    /// Without a limit.
    ReplayResult unlimited;
    /// The least limit that serves every call that the trace's pool served, found by bisection in steps of 2 MiB.
    std::uint64_t least_bytes = 0;
    ReplayResult at_least;
};
std::vector<Candidate> search(const std::vector<Event>& events);
std::string advice(const std::vector<Candidate>& candidates);

} // namespace pool_trace
