// SPDX-License-Identifier: MIT
// With exact growth little more is mapped than is live, also in a pool that was full and empty before.
#include "../test_seed.hpp"
#include "address_source.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

struct Bound {
    std::size_t largest_bytes = 0;
    double most_ratio = 0;
};

class ExactGrowth : public testing::TestWithParam<Bound> {};

/// 73 calls of 100 allocate, sizes up to the largest, the others free one at random; then all are freed.
TEST_P(ExactGrowth, MapsLittleMoreThanLives) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.custom_source = std::make_shared<Addresses>();
    options.growth = Growth::exact;
    options.diagnostics = nullptr;
    MemoryPoolManager pool(options);
    Backend& backend = Backend::get(BackendKind::host);
    const cudaStream_t handle = backend.create_stream();
    {
        const RegisteredStream stream(pool, handle);
        for (unsigned round = 0; round < 5; ++round) {
            std::mt19937_64 random(test_seed(round));
            std::vector<void*> held;
            for (unsigned made = 0; made < 10'000;) {
                if (held.empty() || random() % 100 < 73) {
                    held.push_back(pool.allocate(1 + random() % GetParam().largest_bytes, stream));
                    ++made;
                    continue;
                }
                std::swap(held[random() % held.size()], held.back());
                pool.deallocate(held.back(), stream);
                held.pop_back();
            }
            const PoolStatistics s = pool.statistics();
            EXPECT_LE(static_cast<double>(s.peak_capacity_bytes) / static_cast<double>(s.peak_allocated_bytes),
                      GetParam().most_ratio)
                << "round " << round;
            for (void* block : held)
                pool.deallocate(block, stream);
        }
        EXPECT_EQ(PoolInspector::check(pool), "");
    }
    backend.destroy_stream(handle);
}

INSTANTIATE_TEST_SUITE_P(Sizes, ExactGrowth,
                         testing::Values(Bound{1 * MiB, 1.06}, Bound{4 * MiB, 1.05}, Bound{64 * MiB, 1.05}),
                         [](const auto& bound) { return std::to_string(bound.param.largest_bytes / MiB) + "MiB"; });

} // namespace
} // namespace cuda_zstd
