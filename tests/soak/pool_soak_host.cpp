// SPDX-License-Identifier: MIT
// The soak of the host pool on threads of the host backend, where ThreadSanitizer can watch it.
#include "tests/soak/pool_soak.hpp"

namespace {

using namespace cuda_zstd;

struct Launch {
    static bool available() { return true; }
    static Backend& backend() { return Backend::get(BackendKind::host); }
    static void write(cudaStream_t stream, std::uint32_t* words, std::size_t count, std::uint32_t tag) {
        backend().run_blocks(stream, 1, [=](unsigned, unsigned) {
            // Now and then a stream falls behind the others: who does not wait for it is seen.
            if (tag % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(500));
            for (std::size_t i = 0; i < count; ++i)
                words[i] = pool_soak::word_at(tag, i);
        });
    }
    static void check(cudaStream_t stream, const std::uint32_t* words, std::size_t count, std::uint32_t tag,
                      std::uint32_t* mismatches) {
        backend().run_blocks(stream, 1, [=](unsigned, unsigned) {
            std::uint32_t wrong = 0;
            for (std::size_t i = 0; i < count; ++i)
                wrong += words[i] != pool_soak::word_at(tag, i);
            if (wrong != 0) __atomic_fetch_add(mismatches, wrong, __ATOMIC_RELAXED);
        });
    }
};

} // namespace

int main(int argc, char** argv) { return pool_soak::soak_main<Launch>(argc, argv, pool_soak::Settings{}); }
