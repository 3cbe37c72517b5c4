// SPDX-License-Identifier: MIT
// Every member from eight threads at once. ThreadSanitizer runs this.
#include "../test_seed.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"
#include "strategies.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr unsigned thread_count = 8;

struct Owned {
    unsigned char* ptr = nullptr;
    std::size_t bytes = 0;
    unsigned char value = 0;
};

std::size_t random_bytes(std::mt19937_64& random) {
    switch (random() % 8) {
    case 0:
        return 1 + random() % (4 * MiB);
    case 1:
    case 2:
        return 1 + random() % MiB;
    default:
        return 1 + random() % (32u << 10);
    }
}

class StressTest : public testing::TestWithParam<Strategy> {
protected:
    static PoolOptions options() {
        PoolOptions made;
        made.backend = BackendKind::host;
        made.strategy = GetParam();
        made.max_bytes = 96 * MiB;
        made.diagnostics = nullptr;
        return made;
    }
};

/// The whole block belongs to one thread from allocate to deallocate, whatever the others do.
TEST_P(StressTest, BlocksAreTheirOwnersWhileOthersTrimAndLook) {
    MemoryPoolManager pool(options());
    Backend& backend = pool.backend();
    std::atomic<unsigned> damaged{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < thread_count; ++t)
        threads.emplace_back([&, t] {
            std::mt19937_64 random(test_seed(t + 1));
            const cudaStream_t stream = t % 2 == 0 ? nullptr : backend.create_stream();
            std::vector<Owned> held;
            const auto free_one = [&] {
                const std::size_t at = random() % held.size();
                const Owned owned = held[at];
                held.erase(held.begin() + static_cast<std::ptrdiff_t>(at));
                if (owned.ptr[0] != owned.value || owned.ptr[owned.bytes - 1] != owned.value) damaged.fetch_add(1);
                pool.deallocate(owned.ptr, stream);
            };
            for (unsigned i = 0; i < 600; ++i) {
                const std::size_t bytes = random_bytes(random);
                if (void* block = pool.try_allocate(bytes, stream)) {
                    // The caller writes: no earlier work may be left in the block.
                    backend.synchronize(stream);
                    const auto value = static_cast<unsigned char>(random());
                    held.push_back({static_cast<unsigned char*>(block), bytes, value});
                    held.back().ptr[0] = value;
                    held.back().ptr[bytes - 1] = value;
                }
                if (held.size() > 12) free_one();
                switch (random() % 100) {
                case 0:
                    pool.trim();
                    break;
                case 1:
                    pool.trim(32 * MiB);
                    break;
                case 2:
                    (void)pool.snapshot();
                    break;
                case 3: {
                    std::ostringstream text;
                    pool.print_stats(text);
                    pool.print_allocated_blocks(text);
                    break;
                }
                case 4:
                    try {
                        pool.reserve(8 * MiB);
                    } catch (const out_of_memory&) {
                        // The limit is low on purpose.
                    }
                    break;
                default:
                    break;
                }
            }
            while (!held.empty())
                free_one();
            if (stream != nullptr) backend.destroy_stream(stream);
        });
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(damaged.load(), 0u);
    EXPECT_EQ(PoolInspector::check(pool), "");
    const PoolStatistics s = pool.statistics();
    EXPECT_EQ(s.allocated_bytes, 0u);
    EXPECT_EQ(s.live_blocks, 0u);
    EXPECT_EQ(s.live_block_bytes, 0u);
    EXPECT_EQ(s.allocations, s.deallocations);
    EXPECT_LE(s.peak_capacity_bytes, 96 * MiB);
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 0u);
}

/// With resets in between, a block may be invalidated under its owner, who then is told so or frees what another got
/// at the same address: the pool stays sound either way.
TEST_P(StressTest, ResetAmongAllocations) {
    MemoryPoolManager pool(options());
    std::array<std::vector<void*>, thread_count> left;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < thread_count; ++t)
        threads.emplace_back([&, t] {
            std::mt19937_64 random(test_seed(t + 100));
            std::vector<void*>& held = left[t];
            for (unsigned i = 0; i < 600; ++i) {
                if (void* block = pool.try_allocate(random_bytes(random))) held.push_back(block);
                if (held.size() > 8) {
                    std::swap(held[random() % held.size()], held.back());
                    try {
                        pool.deallocate(held.back());
                    } catch (const usage_error&) {
                        // A reset came in between.
                    }
                    held.pop_back();
                }
                if (random() % 64 == 0) pool.reset();
                if (random() % 64 == 0) pool.trim();
            }
        });
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(PoolInspector::check(pool), "");
    EXPECT_GT(pool.statistics().resets, 0u);
    pool.reset();
    EXPECT_EQ(pool.get_allocated_size(), 0u);
    EXPECT_EQ(PoolInspector::check(pool), "");
    // Now every owner of a block that was left is told, once for all whose block an earlier reset had taken, too.
    std::size_t owners = 0;
    for (const std::vector<void*>& held : left)
        for (void* block : held) {
            ++owners;
            EXPECT_THROW(pool.deallocate(block), usage_error);
        }
    EXPECT_GT(owners, 0u);
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Strategies, StressTest, every_strategy(), name_of_strategy);

} // namespace
} // namespace cuda_zstd
