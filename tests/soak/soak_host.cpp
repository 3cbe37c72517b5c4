// SPDX-License-Identifier: MIT
// The soak on threads of the host backend, where ThreadSanitizer can watch it.
#include "cuda_zstd/env/solo_env.hpp"
#include "tests/soak/soak_main.hpp"

#include <algorithm>

namespace {

using namespace cuda_zstd;

struct Launch {
    using Env = solo_env;
    static bool available() { return true; }
    static Backend& backend() { return Backend::get(BackendKind::host); }
    template <class Body>
    static void run(cudaStream_t stream, const BasicPoolRef<Env>& pool, unsigned threads, const Body& body,
                    unsigned = 256) {
        constexpr unsigned share = 32;
        backend().run_blocks(stream, (threads + share - 1) / share, [=](unsigned block, unsigned processor) {
            Env env(processor);
            for (unsigned thread = block * share; thread < std::min(threads, (block + 1) * share); ++thread)
                body(env, pool, thread);
        });
    }
};

} // namespace

int main(int argc, char** argv) {
    soak::Settings settings;
    settings.pairs = 2000000;
    settings.cycles = 43;
    settings.heap_bytes = std::size_t{16} << 20;
    settings.cycle_heap_bytes = std::size_t{2} << 20;
    settings.log2_threads = 9;
    settings.boxes = 1024;
    settings.wide_of_lap = 8;
    return soak::soak_main<Launch>(argc, argv, settings);
}
