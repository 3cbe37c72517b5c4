// SPDX-License-Identifier: MIT
// A heap in ordinary memory, for tests of one thread or of some.
#pragma once

#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace cuda_zstd::test {

struct Freer {
    void operator()(void* memory) const { std::free(memory); }
};

struct Arena {
    explicit Arena(std::size_t bytes, unsigned processors = 2)
        : memory(std::aligned_alloc(page_bytes, bytes)), layout(HeapLayout::for_arena(bytes, processors)) {
        std::memset(memory.get(), 0, bytes);
        solo_env env;
        format_heap(env, memory.get(), layout, 0, 1);
    }
    template <class T>
    T* at(std::size_t offset) const {
        return reinterpret_cast<T*>(static_cast<char*>(memory.get()) + offset);
    }
    std::unique_ptr<void, Freer> memory;
    HeapLayout layout;
};

} // namespace cuda_zstd::test
