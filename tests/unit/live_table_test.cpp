// SPDX-License-Identifier: MIT
// The table of blocks that are out of the pools: what is in it is found, while it grows and after its former tables are
// gone.
#include "../test_seed.hpp"
#include "cuda_zstd/host/live_table.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

using detail::BlockRecord;
using detail::LiveTable;

std::byte* address(std::size_t granule) {
    return reinterpret_cast<std::byte*>((std::uintptr_t{1} << 45) + granule * detail::granule_bytes);
}

TEST(LiveTable, FindsWhatIsThereAndNothingElse) {
    detail::SlabMap slabs;
    LiveTable table(slabs);
    std::map<std::byte*, BlockRecord*> model;
    std::mt19937_64 random(test_seed(1));
    unsigned freed = 0;
    for (unsigned i = 0; i < 200'000; ++i) {
        // Most in a row, as a slab's slots are; they become more, then fewer, then more.
        std::byte* ptr = address(random() % 4 == 0 ? random() % 1'000'000 : i % 50'000);
        const bool grows = i / 40'000 % 2 == 0;
        const auto found = model.find(ptr);
        ASSERT_EQ(table.find(ptr), found == model.end() ? nullptr : found->second);
        if (found == model.end() && (grows || random() % 4 == 0)) {
            model[ptr] = &table.insert(ptr, nullptr);
        } else if (found != model.end() && (!grows || random() % 4 == 0)) {
            table.discard(*found->second);
            model.erase(found);
        }
        if (!table.has_outgrown()) continue;
        table.free_outgrown([&] { ++freed; });
        EXPECT_FALSE(table.has_outgrown());
    }
    EXPECT_GT(freed, 1u);
    for (const auto& [ptr, record] : model)
        ASSERT_EQ(table.find_beside_all(ptr), record);
}

/// Threads look blocks up without a lock while another makes the table grow again and again.
TEST(LiveTable, GrowsBesideItsReaders) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.max_bytes = std::size_t{256} << 20;
    options.diagnostics = nullptr;
    MemoryPoolManager pool(options);
    Backend& backend = Backend::get(BackendKind::host);
    std::atomic<bool> has_grown{false};
    std::vector<std::thread> readers;
    for (int t = 0; t < 3; ++t)
        readers.emplace_back([&] {
            const cudaStream_t stream = backend.create_stream();
            while (!has_grown.load())
                pool.deallocate(pool.allocate(1000, stream), stream);
            backend.destroy_stream(stream);
        });
    std::vector<void*> blocks(100'000);
    for (void*& block : blocks)
        block = pool.allocate(200);
    has_grown.store(true);
    for (std::thread& reader : readers)
        reader.join();
    for (void* block : blocks)
        pool.deallocate(block);
    EXPECT_EQ(pool.statistics().live_blocks, 0u);
    EXPECT_EQ(PoolInspector::check(pool), "");
}

} // namespace
} // namespace cuda_zstd
