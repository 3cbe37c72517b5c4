// SPDX-License-Identifier: MIT
// NVTX ranges in the domain "cuda_zstd".
// Invariant: a range ends on the thread that began it, in reverse order. With CUDA_ZSTD_POOL_NVTX=0 nothing of this
// reaches the program; with it on and no tool attached, a range costs two calls through a null check.
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <cstddef>
#include <cstdint>

#ifndef CUDA_ZSTD_POOL_NVTX
#define CUDA_ZSTD_POOL_NVTX 1
#endif

namespace cuda_zstd {

/// The categories of ranges; their NVTX ids are these values.
enum class TraceCategory : std::uint32_t { allocate = 1, free = 2, grow = 3, trim = 4, compact = 5, wave = 6 };

#if CUDA_ZSTD_POOL_NVTX

/// A range's name, registered with the domain once. Make it static: `static const TraceName name("wave", ...)`.
class CUDA_ZSTD_API TraceName {
public:
    TraceName(const char* name, TraceCategory category);

private:
    friend class TraceRange;
    void* string_;
    TraceCategory category_;
};

/// A range from here to the end of the scope, with a payload in bytes. Costs one push and one pop.
class CUDA_ZSTD_API TraceRange {
public:
    explicit TraceRange(const TraceName& name, std::size_t payload_bytes = 0) noexcept;
    ~TraceRange();
    TraceRange(const TraceRange&) = delete;
    TraceRange& operator=(const TraceRange&) = delete;
};

#else

class TraceName {
public:
    constexpr TraceName(const char*, TraceCategory) noexcept {}
};
class TraceRange {
public:
    explicit TraceRange(const TraceName&, std::size_t = 0) noexcept {}
    ~TraceRange() {}
    TraceRange(const TraceRange&) = delete;
    TraceRange& operator=(const TraceRange&) = delete;
};

#endif

} // namespace cuda_zstd
