// SPDX-License-Identifier: MIT
// What a PoolVector is made of on the host, whatever its elements are.
//
// Invariant: the vector's state lies in the manager's memory and its segments in the device pool, both of which outlive
// it. The host reads and writes the state only in stream order, as a whole, through a pinned copy.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/device/device_pool.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace cuda_zstd::detail {

class CUDA_ZSTD_API PoolVectorStorage {
public:
    /// `first_count` elements of `element_bytes` each in the first segment. Throws `out_of_memory`, `cuda_error`.
    PoolVectorStorage(MemoryPoolManager& manager, DevicePool& pool, std::uint32_t first_count,
                      std::size_t element_bytes, cudaStream_t stream);
    /// Frees everything behind the work of the construction's stream, which it waits for.
    ~PoolVectorStorage();
    PoolVectorStorage(const PoolVectorStorage&) = delete;
    PoolVectorStorage& operator=(const PoolVectorStorage&) = delete;

    /// The state, a PoolVectorState in memory that kernels reach.
    void* state() const noexcept;
    /// Reads the state behind the work of `stream`, which it waits for; the figures below are as of then.
    void read(cudaStream_t stream);
    std::uint64_t size() const noexcept;
    std::uint64_t refused() const noexcept;
    /// Copies the first `size` elements, behind the work of `stream`, which it waits for.
    void copy_elements(void* to, cudaStream_t stream);
    void clear(cudaStream_t stream);
    void reopen(cudaStream_t stream);

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

} // namespace cuda_zstd::detail
