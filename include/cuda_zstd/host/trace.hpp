// SPDX-License-Identifier: MIT
// NVTX ranges, marks and counters in the domain "cuda_zstd".
// Invariant: a range ends on the thread that began it, in reverse order. Built with CUDA_ZSTD_POOL_NVTX=0 nothing of
// this reaches the program; switched off by the environment, or with no tool attached, each costs a load and a branch.
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

#ifndef CUDA_ZSTD_POOL_NVTX
#define CUDA_ZSTD_POOL_NVTX 1
#endif

namespace cuda_zstd {

/// The categories of ranges and marks; their NVTX ids are these values.
enum class TraceCategory : std::uint32_t { allocate = 1, free = 2, grow = 3, trim = 4, compact = 5, wave = 6 };

/// What CUDA_ZSTD_POOL_NVTX asks for.
enum class NvtxMode : std::uint8_t {
    /// Nothing.
    off,
    /// What is not a hit: growth, misses, trim, reset, compaction, out of memory; counters behind each. The default.
    coarse,
    /// Also a range, a mark of its outcome and the counters for every call.
    fine,
};
/// As read when it was first asked for; `off` where NVTX is not built in. Throws `configuration_error` for a value that
/// is none of off, coarse and fine.
CUDA_ZSTD_API NvtxMode nvtx_mode();

/// What a call of a pool is about; the payload of its ranges and marks.
struct TracePayload {
    std::uint64_t bytes = 0;
    /// The backend's id of the stream.
    std::uint64_t stream = 0;
    /// The pool's number in this process, from 0.
    std::uint32_t pool = 0;
    std::uint32_t reserved = 0;
};

/// A pool's figures for the counters, in bytes.
struct TraceFigures {
    std::uint64_t in_use_bytes = 0;
    std::uint64_t mapped_bytes = 0;
    /// In the arenas; the rest of what is mapped and not in use is cached in smaller pools.
    std::uint64_t free_bytes = 0;
    std::uint64_t largest_free_bytes = 0;
};

#if CUDA_ZSTD_POOL_NVTX

/// A range's name, registered with the domain once. Make it static: `static const TraceName name("wave", ...)`.
class CUDA_ZSTD_API TraceName {
public:
    TraceName(const char* name, TraceCategory category);

private:
    friend class TraceRange;
    friend CUDA_ZSTD_API void trace_mark(const TraceName& name, const TracePayload& payload) noexcept;
    void* string_;
    TraceCategory category_;
};

/// A range from here to the end of the scope, with a payload in bytes. Costs one push and one pop.
class CUDA_ZSTD_API TraceRange {
public:
    explicit TraceRange(const TraceName& name, std::size_t payload_bytes = 0) noexcept;
    TraceRange(const TraceName& name, const TracePayload& payload) noexcept;
    ~TraceRange();
    TraceRange(const TraceRange&) = delete;
    TraceRange& operator=(const TraceRange&) = delete;

private:
    bool pushed_;
};

/// A mark: something that has no duration.
CUDA_ZSTD_API void trace_mark(const TraceName& name, const TracePayload& payload) noexcept;

/// Counters of one pool: "NAME bytes in use", and so on.
class CUDA_ZSTD_API TraceCounters {
public:
    explicit TraceCounters(const std::string& name);
    /// One sample of each counter.
    void sample(const TraceFigures& figures) const noexcept;
    /// Whether a tool takes them.
    bool wanted() const noexcept { return in_use_ != 0; }

private:
    std::uint64_t in_use_ = 0;
    std::uint64_t mapped_ = 0;
    std::uint64_t free_ = 0;
    std::uint64_t cached_ = 0;
    std::uint64_t largest_free_ = 0;
    std::uint64_t fragmentation_ = 0;
};

#else

class TraceName {
public:
    constexpr TraceName(const char*, TraceCategory) noexcept {}
};
class TraceRange {
public:
    explicit TraceRange(const TraceName&, std::size_t = 0) noexcept {}
    TraceRange(const TraceName&, const TracePayload&) noexcept {}
    ~TraceRange() {}
    TraceRange(const TraceRange&) = delete;
    TraceRange& operator=(const TraceRange&) = delete;
};
inline void trace_mark(const TraceName&, const TracePayload&) noexcept {}
class TraceCounters {
public:
    explicit TraceCounters(const std::string&) noexcept {}
    void sample(const TraceFigures&) const noexcept {}
    bool wanted() const noexcept { return false; }
};

#endif

} // namespace cuda_zstd
