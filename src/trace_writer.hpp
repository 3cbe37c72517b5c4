// SPDX-License-Identifier: MIT
// Writes the file that CUDA_ZSTD_POOL_TRACE names.
//
// Invariant: a thread's events are in its own log, in order, until the log is written as one block; only the block's
// write takes the file's lock. A log is written when it is full, a second old, when its thread or a pool ends, and at
// exit. Writers are never destroyed, so late threads do no harm. A forked child writes nothing.
#pragma once

#include "cuda_zstd/host/trace_format.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace cuda_zstd::detail {

/// The clock of traces: the processor's counter where it never stops or changes its pace, else nanoseconds.
class TraceClock {
public:
    static std::uint64_t now() noexcept;
    static std::uint64_t ticks_per_second() noexcept;
};

class TraceWriter {
public:
    /// The process's writer for a path; the first call makes the file. Throws `configuration_error` where it cannot.
    static TraceWriter& to(const std::string& path);

    /// Appends an event of the calling thread. About 25 ns; 1 in about 1,600 writes a block.
    void add(const trace::Event& event) noexcept;
    /// Writes all threads' logs.
    void flush() noexcept;

private:
    struct Log {
        std::atomic<bool> busy{false};
        std::uint64_t thread = 0;
        std::uint32_t events = 0;
        std::uint64_t base_ticks = 0;
        trace::Context context;
        unsigned char* at = nullptr;
        std::unique_ptr<unsigned char[]> bytes;
    };
    struct Busy;
    struct ThreadLogs;

    explicit TraceWriter(const std::string& path);
    Log& log();
    Log& new_log();
    void write(Log& log) noexcept;
    void write_all(const void* data, std::size_t bytes) noexcept;

    static constexpr std::size_t log_bytes = 16 << 10;
    const std::string path_;
    int file_ = -1;
    const int process_;
    std::atomic<bool> failed_{false};
    std::mutex mutex_;
    /// Guarded by mutex_.
    std::vector<std::unique_ptr<Log>> logs_;
};

} // namespace cuda_zstd::detail
