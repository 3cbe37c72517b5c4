// SPDX-License-Identifier: MIT
// What a soak needs on the host: its settings, memory, and how two reports of a heap differ.
// Invariant: nothing here depends on the backend but through the manager.
#pragma once

#include "cuda_zstd/heap/heap_report.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace cuda_zstd::soak {

struct Settings {
    std::uint64_t pairs = 0; ///< of the whole soak
    unsigned cycles = 0;     ///< of filling and emptying
    double seconds = 0;      ///< after which no launch of random pairs begins; 0: until all pairs are done
    std::uint64_t seed = 1;
    std::size_t heap_bytes = 0;       ///< of the random pairs
    std::size_t cycle_heap_bytes = 0; ///< of the cycles
    unsigned streams = 4;
    unsigned log2_threads = 0; ///< of the largest launch; at least 5
    unsigned boxes = 0;
    unsigned wide_of_lap = 4;     ///< launches of each 32 that are the wide mixture
    std::uint64_t done_pairs = 0; ///< by earlier runs of the same soak
    std::uint64_t launches = 0;   ///< made by them, and by this one
};

/// Memory of a backend, given back at the end of the scope. Zero at first.
template <class T>
class Array {
public:
    Array(MemoryPoolManager& manager, cudaStream_t stream, std::size_t count)
        : manager_(manager), stream_(stream), bytes_(count * sizeof(T)),
          data_(static_cast<T*>(manager.allocate(bytes_, stream))) {
        clear();
    }
    ~Array() { manager_.deallocate(data_, stream_); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    void clear() { manager_.backend().fill_async(data_, 0, bytes_, stream_); }
    T* get() const { return data_; }

private:
    MemoryPoolManager& manager_;
    cudaStream_t stream_;
    std::size_t bytes_;
    T* data_;
};

/// The first difference between two reports of empty heaps, or an empty string.
inline std::string difference(const HeapReport& fresh, const HeapReport& now) {
    struct Field {
        const char* name;
        std::uint64_t fresh, now;
    };
    const Field fields[] = {
        {"heap_bytes", fresh.heap_bytes, now.heap_bytes},
        {"live_bytes", fresh.live_bytes, now.live_bytes},
        {"live_blocks", fresh.live_blocks, now.live_blocks},
        {"page_bytes_in_use", fresh.page_bytes_in_use, now.page_bytes_in_use},
        {"free_page_bytes", fresh.free_page_bytes, now.free_page_bytes},
        {"free_slot_bytes", fresh.free_slot_bytes, now.free_slot_bytes},
        {"largest_free_bytes", fresh.largest_free_bytes, now.largest_free_bytes},
        {"slabs", fresh.slabs, now.slabs},
        {"empty_slabs", fresh.empty_slabs, now.empty_slabs},
        {"invalid_frees", fresh.invalid_frees, now.invalid_frees},
        {"double_frees", fresh.double_frees, now.double_frees},
    };
    for (const Field& field : fields)
        if (field.fresh != field.now)
            return std::string(field.name) + " is " + std::to_string(field.now) + ", and " +
                   std::to_string(field.fresh) + " in a new heap";
    return "";
}

} // namespace cuda_zstd::soak
