// SPDX-License-Identifier: MIT
// How the suites run their bodies on the host backend: a thread of the pool for each share of the threads, a block of
// one thread for each block.
#pragma once

#include "cuda_zstd/device/block_scope.hpp"
#include "cuda_zstd/device/pool_ref.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/host/backend.hpp"

#include <algorithm>
#include <memory>

namespace cuda_zstd::test {

struct Shared;

struct Launch {
    using Env = solo_env;
    using Block = solo_block;
    static bool available() { return true; }
    static Backend& backend() { return Backend::get(BackendKind::host); }
    template <class Ref, class Body>
    static void run(cudaStream_t stream, const Ref& pool, unsigned threads, const Body& body) {
        constexpr unsigned share = 256;
        backend().run_blocks(stream, (threads + share - 1) / share, [=](unsigned block, unsigned processor) {
            Env env(processor);
            for (unsigned thread = block * share; thread < std::min(threads, (block + 1) * share); ++thread)
                body(env, pool, thread);
        });
    }
    template <class Body, class SharedMemory = Shared>
    static void run_blocks(cudaStream_t stream, const BasicPoolRef<Env>& pool, unsigned blocks, const Body& body) {
        backend().run_blocks(stream, blocks, [=](unsigned index, unsigned processor) {
            Env env(processor);
            Block block(env);
            SharedMemory shared{};
            body(block, pool, index, shared);
        });
    }
};

} // namespace cuda_zstd::test
