// SPDX-License-Identifier: MIT
// The host-side owner of a vector that kernels append to.
//
// Invariant: what kernels do with the vector is ordered by streams alone: their work must be behind the construction's
// stream, and before the stream of a call here that reads or frees. Manager and pool outlive the vector. Members must
// not be called from two threads at once.
//
//     cuda_zstd::PoolVector<Hit> hits(manager, pool, stream);
//     find_hits<<<blocks, 256, 0, stream>>>(hits.ref<cuda_zstd::cuda_env>(), ...);   // push_back from any thread
//     const std::vector<Hit> found = hits.to_host(stream);                           // in the order of the indices
#pragma once

#include "cuda_zstd/device/pool_vector_ref.hpp"
#include "cuda_zstd/device/pool_vector_storage.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <type_traits>
#include <vector>

namespace cuda_zstd {

template <class T, std::uint32_t FirstCount = 0>
class PoolVector {
public:
    static_assert(!std::is_same_v<T, bool>, "std::vector<bool> has no elements to copy to");

    /// An empty vector whose segments will come from `pool`. Throws `out_of_memory`, `cuda_error`.
    PoolVector(MemoryPoolManager& manager, DevicePool& pool, cudaStream_t stream = 0)
        : storage_(manager, pool, pool_vector_first_count<T, FirstCount>, sizeof(T), stream) {}

    /// The handle for kernels; for PoolVectorRef in CUDA code, `Env` is cuda_env.
    template <class Env>
    BasicPoolVectorRef<T, Env, FirstCount> ref() const {
        return BasicPoolVectorRef<T, Env, FirstCount>(static_cast<PoolVectorState<Env>*>(storage_.state()));
    }

    // Each of these takes effect behind the work of `stream`, and waits for it.

    /// All elements in the order of their indices. Cost: a copy for each segment and one of the directory.
    std::vector<T> to_host(cudaStream_t stream) {
        storage_.read(stream);
        std::vector<T> elements(storage_.size());
        storage_.copy_elements(elements.data(), stream);
        return elements;
    }
    /// Elements that the vector has.
    std::uint64_t size(cudaStream_t stream) {
        storage_.read(stream);
        return storage_.size();
    }
    /// Elements that were refused for want of memory, since construction or the last clear.
    std::uint64_t refused(cudaStream_t stream) {
        storage_.read(stream);
        return storage_.refused();
    }
    /// Frees all elements; the vector is empty and open again.
    void clear(cudaStream_t stream) { storage_.clear(stream); }
    /// Opens a vector that was closed for want of memory, behind the elements that it has.
    void reopen(cudaStream_t stream) { storage_.reopen(stream); }

private:
    detail::PoolVectorStorage storage_;
};

} // namespace cuda_zstd
