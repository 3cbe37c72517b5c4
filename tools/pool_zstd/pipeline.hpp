// SPDX-License-Identifier: MIT
// Files in, frames out: waves in flight on their own streams, read and written by the caller's thread in between.
//
// Invariant: waves are collected in the order in which they were submitted, so a file's frames are written in order;
// one output is open at a time. An error of one file ends that file, and the others go on; an error of an output that
// all files share ends everything. A chunk that found the pool full is compressed again, with fewer beside it, before
// its wave is written, and later waves are smaller.
#pragma once

#include "mender.hpp"
#include "output.hpp"
#include "wave.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

namespace pool_zstd {

/// How the pipeline tells of itself.
struct Listener {
    /// Input bytes whose frames are written.
    std::function<void(std::uint64_t done_bytes)> on_progress;
    /// A file is complete; its output has its final name.
    std::function<void(const InputFile&)> on_file;
    /// A file failed, or the program goes on with a warning.
    std::function<void(const std::string& message)> on_error;
};

class Pipeline {
public:
    /// `expected_bytes` of input, as far as known: a wave is not made larger than that. Throws `cuda_zstd`'s errors.
    Pipeline(const Options& options, cuda_zstd::MemoryPoolManager& manager, std::uint64_t expected_bytes,
             Listener listener);

    /// Reads and compresses a file. Throws only what ends the program.
    void add(const std::string& name);
    /// Compresses and writes what is left. To be called once, last.
    void finish();

    /// Files that failed.
    std::size_t failed_files() const { return failed_files_; }
    double kernel_ms() const { return kernel_ms_; }
    /// Input bytes of a wave, as they are now.
    std::size_t wave_bytes() const { return wave_bytes_; }
    cuda_zstd::HeapReport pool_report();

private:
    /// Waves in flight at most: one is read or written while the others are compressed.
    static constexpr std::size_t most_waves = 3;

    Wave& filling();
    void submit_filling();
    void collect_oldest();
    void mend(Wave& wave);
    void write(Wave& wave);
    void write_part(Wave& wave, const WavePart& part);
    void fail(InputFile& file, const std::string& message);

    const Options& options_;
    cuda_zstd::MemoryPoolManager& manager_;
    cuda_zstd::Backend& backend_;
    Listener listener_;
    std::size_t wave_bytes_;
    cuda_zstd::DevicePool pool_;
    Mender mender_;
    std::vector<std::unique_ptr<Wave>> waves_;
    /// Fewer than `most_waves` when there was no memory for one more.
    std::size_t wave_limit_ = most_waves;
    std::deque<Wave*> idle_;
    std::deque<Wave*> in_flight_;
    Wave* filling_ = nullptr;
    std::unique_ptr<Output> output_;
    std::unordered_set<std::string> output_names_;
    std::uint64_t done_bytes_ = 0;
    std::size_t failed_files_ = 0;
    double kernel_ms_ = 0;
};

} // namespace pool_zstd
