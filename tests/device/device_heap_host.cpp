// SPDX-License-Identifier: MIT
#include "cuda_zstd/device/pool_ref.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/host/backend.hpp"

#include <algorithm>
#include <memory>

namespace cuda_zstd::test {

struct Launch {
    using Env = solo_env;
    static bool available() { return true; }
    static Backend& backend() { return Backend::get(BackendKind::host); }
    template <class Body>
    static void run(cudaStream_t stream, const BasicPoolRef<Env>& pool, unsigned threads, const Body& body) {
        constexpr unsigned share = 256;
        backend().run_blocks(stream, (threads + share - 1) / share, [=](unsigned block, unsigned processor) {
            Env env(processor);
            for (unsigned thread = block * share; thread < std::min(threads, (block + 1) * share); ++thread)
                body(env, pool, thread);
        });
    }
};

} // namespace cuda_zstd::test

#include "../suite/device_heap.inc"
