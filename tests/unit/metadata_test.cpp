// SPDX-License-Identifier: MIT
// What the process's heap holds for each live block. The bounds are what it takes now: they fail when it grows.
#include "address_source.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <malloc.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace cuda_zstd {
namespace {

struct Bound {
    std::size_t bytes = 0;
    unsigned blocks = 0;
    /// Of one block.
    double most_metadata_bytes = 0;
};

class MetadataTest : public testing::TestWithParam<Bound> {};

double heap_bytes() {
    const struct mallinfo2 info = mallinfo2();
    return static_cast<double>(info.uordblks + info.hblkhd);
}

TEST_P(MetadataTest, ALiveBlockTakesNoMoreThanItDid) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer's malloc does not count";
#endif
    PoolOptions options;
    options.backend = BackendKind::host;
    options.custom_source = std::make_shared<Addresses>();
    options.diagnostics = nullptr;
    MemoryPoolManager pool(options);
    Backend& backend = Backend::get(BackendKind::host);
    const cudaStream_t stream = backend.create_stream();
    {
        const RegisteredStream lane(pool, stream);
        for (int i = 0; i < 2; ++i)
            pool.deallocate(pool.allocate(GetParam().bytes, lane), lane);
        std::vector<void*> held(GetParam().blocks);
        const double before = heap_bytes();
        for (void*& block : held)
            block = pool.allocate(GetParam().bytes, lane);
        const double metadata_bytes = (heap_bytes() - before) / GetParam().blocks;
        RecordProperty("metadata_bytes", std::to_string(metadata_bytes));
        EXPECT_GT(metadata_bytes, 8) << "nothing was counted";
        EXPECT_LE(metadata_bytes, GetParam().most_metadata_bytes);
        for (void* block : held)
            pool.deallocate(block, lane);
    }
    backend.destroy_stream(stream);
}

INSTANTIATE_TEST_SUITE_P(Sizes, MetadataTest,
                         testing::Values(Bound{256, 50'000, 34.5}, Bound{512, 50'000, 36}, Bound{1 << 10, 50'000, 38},
                                         Bound{4 << 10, 50'000, 44}, Bound{128 << 10, 20'000, 232},
                                         Bound{2 << 20, 20'000, 232}),
                         [](const auto& bound) { return std::to_string(bound.param.bytes); });

} // namespace
} // namespace cuda_zstd
