// SPDX-License-Identifier: MIT
// The concept of a thread block: who a thread is among the threads of its block, their barrier, and cells that they
// share.
//
// Invariant: what is for a whole block learns of it only through this, so that one source runs in a kernel
// (`cuda_block` in cuda_block.cuh), on the host backend, where a block is one thread (`solo_block`), and in tests, on
// real threads and in the simulator.
//
// Rules of use: `sync` is called by every thread of the block, and orders what each did before it before what any does
// after it. Cells lie in memory that the block alone uses (shared memory in a kernel); accesses to them are relaxed and
// order nothing.
#pragma once

#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/env/solo_env.hpp"

#include <concepts>
#include <cstdint>

namespace cuda_zstd {

template <class B>
concept BlockScope = requires(B& block, typename B::Env::template atom<std::uint32_t>& cell, std::uint32_t value) {
    /// The environment of the calling thread.
    { block.env() } -> std::same_as<typename B::Env&>;
    /// The caller's number, from 0, and how many threads the block has.
    { block.thread() } -> std::same_as<unsigned>;
    { block.threads() } -> std::same_as<unsigned>;
    block.sync();
    { block.load(cell) } -> std::same_as<std::uint32_t>;
    block.store(cell, value);
    { block.fetch_add(cell, value) } -> std::same_as<std::uint32_t>;
};

/// A block of one thread: that of the host backend.
class solo_block {
public:
    using Env = solo_env;

    explicit solo_block(Env& env) noexcept : env_(env) {}

    Env& env() const noexcept { return env_; }
    unsigned thread() const noexcept { return 0; }
    unsigned threads() const noexcept { return 1; }
    void sync() const noexcept {}
    std::uint32_t load(const Env::atom<std::uint32_t>& cell) const noexcept { return env_.load(cell, Order::relaxed); }
    void store(Env::atom<std::uint32_t>& cell, std::uint32_t value) const noexcept {
        env_.store(cell, value, Order::relaxed);
    }
    std::uint32_t fetch_add(Env::atom<std::uint32_t>& cell, std::uint32_t value) const noexcept {
        return env_.fetch_add(cell, value, Order::relaxed);
    }

private:
    Env& env_;
};

} // namespace cuda_zstd
