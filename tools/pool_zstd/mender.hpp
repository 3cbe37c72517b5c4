// SPDX-License-Identifier: MIT
// Chunks that found the pool full, compressed again in small waves of their own.
// Invariant: what fits the pool alone is compressed; what does not stays stored, as it was.
#pragma once

#include "wave.hpp"

#include <memory>
#include <span>
#include <vector>

namespace pool_zstd {

class Mender {
public:
    Mender(const Options& options, cuda_zstd::MemoryPoolManager& manager, cuda_zstd::DevicePool& pool);

    /// Whether a chunk of the wave, which was collected, had no memory.
    static bool is_needed(const Wave& wave);
    /// Compresses again what had no memory in the wave. Nobody else may use the pool meanwhile. First as many chunks
    /// together as fit the pool in the worst case, then each alone. Returns the milliseconds of the kernels.
    double mend(Wave& wave);

private:
    /// Adds what got memory to `mended` and returns what did not.
    std::vector<std::uint32_t> compress(const Wave& wave, std::span<const std::uint32_t> chunks,
                                        std::vector<Wave::NewFrame>& mended);

    const Options& options_;
    cuda_zstd::MemoryPoolManager& manager_;
    cuda_zstd::DevicePool& pool_;
    std::uint32_t most_chunks_;
    /// Made when it is needed.
    std::unique_ptr<Wave> small_;
    double kernel_ms_ = 0;
};

} // namespace pool_zstd
