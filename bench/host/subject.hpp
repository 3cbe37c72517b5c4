// SPDX-License-Identifier: MIT
// Who is measured: a pool, behind a pair of calls on a stream.
//
// Invariant: a subject that cannot run here is null with a reason, never a stand-in. What `prepare` is told to hold, a
// subject holds before the clock starts, as far as it has a way to do so.
#pragma once

#include "cuda_zstd/host/backend.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bench {

/// A stream as a subject knows it.
class Lane {
public:
    explicit Lane(cudaStream_t stream) : stream_(stream) {}
    virtual ~Lane() = default;
    cudaStream_t stream() const noexcept { return stream_; }

private:
    cudaStream_t stream_;
};

class Subject {
public:
    virtual ~Subject() = default;
    virtual std::unique_ptr<Lane> lane(cudaStream_t stream) { return std::make_unique<Lane>(stream); }
    /// Throws where there is no memory.
    virtual void* allocate(std::size_t bytes, Lane& lane) = 0;
    virtual void deallocate(void* block, std::size_t bytes, Lane& lane) = 0;
    /// Gives back what is cached.
    virtual void trim() {}
    /// Whether it frees a million blocks in the time of a case. If not, those that a case is done with end with the
    /// subject, as a whole.
    virtual bool frees_all() const noexcept { return false; }
    /// Peak of mapped over peak of requested bytes; none where the subject does not say.
    virtual std::optional<double> peak_ratio() const { return std::nullopt; }
};

/// What the memory of a case has to be.
enum class Memory {
    /// Usable: something writes into it.
    usable,
    /// Addresses are enough: nothing is mapped by ours, so that a case may be larger than the machine.
    addresses,
};

struct Setting {
    /// Held before the clock starts; 0: nothing.
    std::size_t prepared_bytes = 0;
    Memory memory = Memory::usable;
};

/// Every name that there is, in the order of the results.
std::vector<std::string> subject_names();
/// Whether a subject asks the driver for each block that it has not had before.
inline bool asks_the_driver(const std::string& name) { return name == "cuda" || name == "cub"; }
/// Null, and why, where it cannot run here.
std::unique_ptr<Subject> make_subject(const std::string& name, cuda_zstd::Backend& backend, const Setting& setting,
                                      std::string& reason);

} // namespace bench
