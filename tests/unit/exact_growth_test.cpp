// SPDX-License-Identifier: MIT
// With exact growth little more is mapped than is live, also in a pool that was full and empty before.
#include "../test_seed.hpp"
#include "address_source.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"
#include "strict_backend.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

struct Bound {
    unsigned allocations = 0;
    std::size_t largest_bytes = 0;
    unsigned streams = 1;
    Strategy strategy = Strategy::best_fit;
    double most_ratio = 0;
};

PoolOptions exact(Strategy strategy = Strategy::best_fit) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.custom_source = std::make_shared<Addresses>();
    options.growth = Growth::exact;
    options.strategy = strategy;
    options.diagnostics = nullptr;
    return options;
}

class ExactGrowth : public testing::TestWithParam<Bound> {};

/// 73 calls of 100 allocate, sizes up to the largest, the others free one at random on its stream; then all are freed.
TEST_P(ExactGrowth, MapsLittleMoreThanLives) {
    MemoryPoolManager pool(exact(GetParam().strategy));
    Backend& backend = Backend::get(BackendKind::host);
    std::vector<cudaStream_t> handles;
    for (unsigned i = 0; i < GetParam().streams; ++i)
        handles.push_back(backend.create_stream());
    {
        std::deque<RegisteredStream> streams;
        for (const cudaStream_t handle : handles)
            streams.emplace_back(pool, handle);
        for (unsigned round = 0; round < 5; ++round) {
            std::mt19937_64 random(test_seed(round));
            std::vector<std::pair<void*, const RegisteredStream*>> held;
            for (unsigned made = 0; made < GetParam().allocations;) {
                if (held.empty() || random() % 100 < 73) {
                    const std::size_t bytes = 1 + random() % GetParam().largest_bytes;
                    const RegisteredStream& stream = streams[made++ % streams.size()];
                    held.emplace_back(pool.allocate(bytes, stream), &stream);
                    continue;
                }
                std::swap(held[random() % held.size()], held.back());
                pool.deallocate(held.back().first, *held.back().second);
                held.pop_back();
            }
            const PoolStatistics s = pool.statistics();
            EXPECT_LE(static_cast<double>(s.peak_capacity_bytes) / static_cast<double>(s.peak_allocated_bytes),
                      GetParam().most_ratio)
                << "round " << round;
            for (const auto& [block, stream] : held)
                pool.deallocate(block, *stream);
        }
        EXPECT_EQ(PoolInspector::check(pool), "");
    }
    for (const cudaStream_t handle : handles)
        backend.destroy_stream(handle);
}

INSTANTIATE_TEST_SUITE_P(Sizes, ExactGrowth,
                         testing::Values(Bound{1000, 1 * MiB, 1, Strategy::best_fit, 1.06},
                                         Bound{1000, 4 * MiB, 1, Strategy::best_fit, 1.04},
                                         Bound{1000, 1 * MiB, 4, Strategy::best_fit, 1.09},
                                         Bound{1000, 4 * MiB, 4, Strategy::best_fit, 1.06},
                                         Bound{1000, 4 * MiB, 1, Strategy::first_fit, 1.06},
                                         Bound{1000, 4 * MiB, 1, Strategy::segregated, 1.06},
                                         Bound{10'000, 1 * MiB, 1, Strategy::best_fit, 1.03},
                                         Bound{10'000, 4 * MiB, 1, Strategy::best_fit, 1.03},
                                         Bound{10'000, 64 * MiB, 1, Strategy::best_fit, 1.05}),
                         [](const auto& bound) {
                             std::string strategy = to_string(bound.param.strategy);
                             std::replace(strategy.begin(), strategy.end(), '-', '_');
                             return std::to_string(bound.param.allocations) + "_" +
                                    std::to_string(bound.param.largest_bytes / MiB) + "MiB_" +
                                    std::to_string(bound.param.streams) + "_" + strategy;
                         });

/// The first block of a class takes no more than a few of its slots.
TEST(ExactGrowthOfSlabs, AClassThatIsUsedLittleHoldsLittle) {
    MemoryPoolManager pool(exact());
    const cudaStream_t stream = nullptr;
    std::vector<void*> held;
    std::size_t classes = 0;
    for (std::size_t bytes = 1; bytes < 64u << 10; bytes = detail::SmallPool::slot_bytes(bytes) + 1, ++classes)
        held.push_back(pool.allocate(bytes, stream));
    EXPECT_GT(classes, 20u);
    EXPECT_LE(pool.get_pool_size(), 2 * MiB + classes * (128u << 10));
    for (void* block : held)
        pool.deallocate(block, stream);
    EXPECT_EQ(PoolInspector::check(pool), "");
}

/// The stream's last frees share a ticket that is not recorded yet; its chunks are exchanged all the same.
TEST(ExactGrowthOfChunks, WhatTheStreamHasJustFreedIsExchanged) {
    detail::StrictBackend backend;
    PoolOptions options = exact();
    options.custom_backend = &backend;
    MemoryPoolManager pool(options);
    const cudaStream_t stream = detail::StrictBackend::handle(1);
    // Too large for a magazine. The first free is recorded, then every second one, since a ticket waits for 64 MiB.
    for (int i = 0; i < 3; ++i)
        pool.deallocate(pool.allocate(40 * MiB, stream), stream);
    void* gone = pool.allocate(40 * MiB, stream);
    void* between = pool.allocate(40 * MiB, stream);
    pool.deallocate(gone, stream);
    void* larger = pool.allocate(60 * MiB, stream);
    EXPECT_EQ(pool.get_pool_size(), 100 * MiB);
    pool.deallocate(between, stream);
    pool.deallocate(larger, stream);
    EXPECT_EQ(PoolInspector::check(pool), "");
}

} // namespace
} // namespace cuda_zstd
