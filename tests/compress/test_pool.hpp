// SPDX-License-Identifier: MIT
// A pool for tests: ordinary memory, every block known, and a failure where the test wants one.
// Invariant: a block is freed once; address and size of each live block are in `live_`.
#pragma once

#include "cuda_zstd/env/whole_warp.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <map>
#include <new>
#include <stdexcept>

namespace compress_test {

class TestPool {
public:
    static constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();

    /// Allocations from number `fail_from` on, counted from 0, return null, `fail_count` of them.
    explicit TestPool(std::uint64_t fail_from = never, std::uint64_t fail_count = never)
        : fail_from_(fail_from), fail_count_(fail_count) {}
    ~TestPool() {
        for (const auto& [block, bytes] : live_)
            std::free(block);
    }
    TestPool(const TestPool&) = delete;
    TestPool& operator=(const TestPool&) = delete;

    template <class Env>
    void* allocate_warp(Env& env, std::size_t bytes) {
        std::uint64_t block = 0;
        if (env.lane() == 0) block = reinterpret_cast<std::uint64_t>(take(bytes));
        block = env.shfl(cuda_zstd::whole_warp<Env>, block, 0);
        return reinterpret_cast<void*>(block);
    }
    template <class Env>
    void deallocate_warp(Env& env, void* block) {
        env.sync(cuda_zstd::whole_warp<Env>);
        if (env.lane() == 0) give(block);
    }

    std::size_t live_blocks() const { return live_.size(); }
    std::uint64_t calls() const { return calls_; }
    std::size_t peak_bytes() const { return peak_bytes_; }

private:
    void* take(std::size_t bytes) {
        const std::uint64_t call = calls_++;
        if (call >= fail_from_ && call - fail_from_ < fail_count_) return nullptr;
        void* const block = std::aligned_alloc(16, (bytes + 15) & ~std::size_t{15});
        if (block == nullptr) throw std::bad_alloc();
        live_.emplace(block, bytes);
        live_bytes_ += bytes;
        if (live_bytes_ > peak_bytes_) peak_bytes_ = live_bytes_;
        return block;
    }
    void give(void* block) {
        const auto found = live_.find(block);
        if (found == live_.end()) throw std::logic_error("a block that is not live was freed");
        live_bytes_ -= found->second;
        live_.erase(found);
        std::free(block);
    }

    std::uint64_t fail_from_;
    std::uint64_t fail_count_;
    std::uint64_t calls_ = 0;
    std::map<void*, std::size_t> live_;
    std::size_t live_bytes_ = 0;
    std::size_t peak_bytes_ = 0;
};

} // namespace compress_test
