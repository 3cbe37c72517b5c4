// SPDX-License-Identifier: MIT
// What a pool does before it says that there is no memory: it waits, it asks the other pools, it asks the program.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

/// Ordinary memory of a machine that several pools share.
class SharedSource final : public ArenaSource {
public:
    explicit SharedSource(std::atomic<std::size_t>& left_bytes) : left_bytes_(left_bytes) {}
    const char* name() const noexcept override { return "shared"; }
    bool grows() const noexcept override { return true; }
    std::size_t granularity_bytes() const noexcept override { return ordinary_->granularity_bytes(); }
    std::size_t total_bytes() const override { return 1024 * MiB; }
    AddressRange reserve(std::size_t bytes) override { return ordinary_->reserve(bytes); }
    void map(const AddressRange& range, std::size_t offset, std::size_t bytes) override {
        if (left_bytes_ < bytes) throw out_of_memory("the machine has no more");
        ordinary_->map(range, offset, bytes);
        left_bytes_ -= bytes;
    }
    void unmap(const AddressRange& range, std::size_t offset, std::size_t bytes) noexcept override {
        ordinary_->unmap(range, offset, bytes);
        left_bytes_ += bytes;
    }
    void release(const AddressRange& range) noexcept override { ordinary_->release(range); }

private:
    std::atomic<std::size_t>& left_bytes_;
    std::unique_ptr<ArenaSource> ordinary_ = make_ordinary_source();
};

PoolOptions options_with(std::atomic<std::size_t>& left_bytes) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.diagnostics = nullptr;
    options.growth = Growth::exact;
    options.custom_source = std::make_shared<SharedSource>(left_bytes);
    return options;
}

TEST(Pressure, WhatOtherPoolsKeepIsGivenBack) {
    std::atomic<std::size_t> left_bytes{64 * MiB};
    MemoryPoolManager keeper(options_with(left_bytes));
    void* live = keeper.allocate(4 * MiB);
    keeper.deallocate(keeper.allocate(44 * MiB));
    ASSERT_GE(keeper.get_pool_size(), 48 * MiB);
    MemoryPoolManager asker(options_with(left_bytes));
    void* block = asker.allocate(40 * MiB);
    EXPECT_NE(block, nullptr);
    EXPECT_LE(keeper.get_pool_size(), 6 * MiB) << "what the other pool did not need went back";
    EXPECT_THROW((void)asker.allocate(40 * MiB), out_of_memory);
    asker.deallocate(block);
    keeper.deallocate(live);
}

TEST(Pressure, ALimitOfItsOwnTrimsNobodyElse) {
    std::atomic<std::size_t> left_bytes{64 * MiB};
    MemoryPoolManager keeper(options_with(left_bytes));
    keeper.deallocate(keeper.allocate(20 * MiB));
    PoolOptions options = options_with(left_bytes);
    options.max_bytes = 8 * MiB;
    MemoryPoolManager asker(options);
    EXPECT_EQ(asker.try_allocate(20 * MiB), nullptr);
    EXPECT_GE(keeper.get_pool_size(), 20 * MiB);
}

TEST(Pressure, TheProgramIsAskedLastAndAsOftenAsItHelps) {
    std::atomic<std::size_t> left_bytes{64 * MiB};
    PoolOptions options = options_with(left_bytes);
    options.max_bytes = 16 * MiB;
    MemoryPoolManager* asked = nullptr;
    std::vector<void*> spare;
    unsigned calls = 0;
    options.on_out_of_memory = [&](std::size_t bytes) {
        ++calls;
        EXPECT_EQ(bytes, 8 * MiB);
        if (spare.empty()) return false;
        asked->deallocate(spare.back());
        spare.pop_back();
        return true;
    };
    MemoryPoolManager pool(options);
    asked = &pool;
    for (unsigned i = 0; i < 4; ++i)
        spare.push_back(pool.allocate(4 * MiB));
    EXPECT_EQ(calls, 0u);
    void* block = pool.allocate(8 * MiB);
    EXPECT_EQ(calls, 2u) << "two blocks of 4 MiB make room for one of 8";
    spare.clear();
    EXPECT_EQ(pool.try_allocate(8 * MiB), nullptr);
    EXPECT_EQ(calls, 3u) << "no further help, so no further try";
    pool.deallocate(block);
    pool.reset();
}

/// Free memory that no single hole can serve is brought together, at the limit and below it.
TEST(Exchange, FragmentsOfAFullPoolServeALargeBlock) {
    for (const Growth growth : {Growth::exact, Growth::geometric}) {
        std::atomic<std::size_t> left_bytes{1024 * MiB};
        PoolOptions options = options_with(left_bytes);
        options.growth = growth;
        options.max_bytes = 66 * MiB; // chunks of 2 MiB
        MemoryPoolManager pool(options);
        std::vector<void*> blocks;
        for (unsigned i = 0; i < 16; ++i)
            blocks.push_back(pool.allocate(4 * MiB));
        for (unsigned i = 0; i < 16; i += 2)
            pool.deallocate(blocks[i]);
        void* large = pool.allocate(30 * MiB);
        EXPECT_LE(pool.get_pool_size(), 66 * MiB);
        static_cast<unsigned char*>(large)[0] = 1;
        static_cast<unsigned char*>(large)[30 * MiB - 1] = 1;
        pool.deallocate(large);
        for (unsigned i = 1; i < 16; i += 2)
            pool.deallocate(blocks[i]);
        pool.trim();
        EXPECT_EQ(pool.get_pool_size(), 0u);
        EXPECT_EQ(left_bytes, 1024 * MiB);
    }
}

} // namespace
} // namespace cuda_zstd
