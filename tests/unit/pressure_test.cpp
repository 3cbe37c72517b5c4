// SPDX-License-Identifier: MIT
// What a pool does before it says that there is no memory: it waits, it asks the other pools, it asks the program.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>
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

/// Waits, in the order that the guide names: what is free, what pending frees hold, other pools of the device, pools of
/// other devices, the program; each only where the one before has not helped.
TEST(Pressure, TheMeansComeInTheirOrder) {
    if (Backend::device_count(BackendKind::host) < 2) GTEST_SKIP() << "CUDA_ZSTD_POOL_HOST_DEVICES is not 2 or more";
    std::atomic<std::size_t> left_bytes{64 * MiB};
    MemoryPoolManager beside(options_with(left_bytes));
    PoolOptions elsewhere = options_with(left_bytes);
    elsewhere.device = 1;
    MemoryPoolManager far(elsewhere);
    unsigned asked = 0;
    PoolOptions options = options_with(left_bytes);
    options.on_out_of_memory = [&](std::size_t) {
        ++asked;
        return false;
    };
    MemoryPoolManager pool(options);
    beside.deallocate(beside.allocate(16 * MiB));
    far.deallocate(far.allocate(16 * MiB));
    void* first = pool.allocate(30 * MiB);
    EXPECT_EQ(beside.get_pool_size(), 16 * MiB) << "the machine had enough";
    // A pending free: its stream's work is not done.
    Backend& backend = pool.backend();
    const cudaStream_t busy = backend.create_stream();
    std::atomic<bool> open{false};
    std::thread opener;
    backend.host_task(busy, [&] {
        while (!open)
            std::this_thread::yield();
    });
    pool.deallocate(first, busy);
    opener = std::thread([&] {
        while (pool.statistics().host_waits == 0)
            std::this_thread::yield();
        open = true;
    });
    // Larger than the pending block and what is left: it is waited for and given in exchange, with no other pool's
    // help.
    void* second = pool.try_allocate(32 * MiB);
    opener.join();
    EXPECT_NE(second, nullptr);
    EXPECT_GE(pool.statistics().host_waits, 1u);
    EXPECT_EQ(beside.get_pool_size(), 16 * MiB);
    EXPECT_EQ(far.get_pool_size(), 16 * MiB);
    void* third = pool.try_allocate(14 * MiB);
    EXPECT_NE(third, nullptr);
    EXPECT_EQ(beside.get_pool_size(), 0u) << "the pool beside it gives first";
    EXPECT_EQ(far.get_pool_size(), 16 * MiB) << "and that was enough";
    void* fourth = pool.try_allocate(14 * MiB);
    EXPECT_NE(fourth, nullptr);
    EXPECT_EQ(far.get_pool_size(), 0u) << "then those of other devices";
    EXPECT_EQ(asked, 0u);
    EXPECT_EQ(pool.try_allocate(14 * MiB), nullptr);
    EXPECT_EQ(asked, 1u) << "the program is asked last";
    try {
        (void)pool.allocate(14 * MiB);
        ADD_FAILURE() << "there is no memory";
    } catch (const out_of_memory& error) {
        const std::string text = error.what();
        for (const char* part : {"cannot allocate 14680064 bytes", "bytes are mapped", "allocated", "fragmentation",
                                 "the machine has no more"})
            EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
    }
    for (void* block : {second, third, fourth})
        pool.deallocate(block);
    backend.destroy_stream(busy);
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
