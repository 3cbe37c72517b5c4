// SPDX-License-Identifier: MIT
// Pools of two GPUs. Where there are fewer, each test says so and is skipped; the host backend's devices are tested in
// tests/unit/devices_test.cpp.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

class TwoGpus : public testing::Test {
protected:
    void SetUp() override {
        if (Backend::device_count(BackendKind::cuda) < 2)
            GTEST_SKIP() << "needs two GPUs, " << Backend::device_count(BackendKind::cuda) << " answer";
        ASSERT_EQ(cudaGetDevice(&before_), cudaSuccess);
    }
    void TearDown() override {
        if (before_ < 0) return;
        EXPECT_EQ(cudaSetDevice(before_), cudaSuccess);
        EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "no error is left behind";
    }
    static PoolOptions of(int device) {
        PoolOptions options;
        options.backend = BackendKind::cuda;
        options.device = device;
        options.max_bytes = 64 * MiB;
        options.diagnostics = nullptr;
        return options;
    }
    static int device_of(const void* block) {
        cudaPointerAttributes attributes{};
        EXPECT_EQ(cudaPointerGetAttributes(&attributes, block), cudaSuccess);
        return attributes.device;
    }
    int before_ = -1;
};

TEST_F(TwoGpus, EachPoolHasItsDevicesMemory) {
    for (const SourceKind source : {SourceKind::automatic, SourceKind::cuda_malloc}) {
        for (const int current : {0, 1}) {
            ASSERT_EQ(cudaSetDevice(current), cudaSuccess);
            for (const int device : {0, 1}) {
                PoolOptions options = of(device);
                options.source = source;
                MemoryPoolManager pool(options);
                EXPECT_EQ(pool.device(), device);
                for (const std::size_t bytes : {std::size_t{700}, std::size_t{100000}, 5 * MiB}) {
                    void* block = pool.allocate(bytes);
                    EXPECT_EQ(device_of(block), device);
                    pool.backend().fill_async(block, 3, bytes, nullptr);
                    std::vector<unsigned char> seen(bytes);
                    pool.backend().copy_async(seen.data(), block, bytes, nullptr);
                    pool.backend().synchronize(nullptr);
                    EXPECT_EQ(seen.front(), 3);
                    EXPECT_EQ(seen.back(), 3);
                    pool.deallocate(block);
                }
                int now = -1;
                EXPECT_EQ(cudaGetDevice(&now), cudaSuccess);
                EXPECT_EQ(now, current) << "a pool leaves the current device alone";
                pool.trim();
                EXPECT_EQ(pool.get_pool_size(), 0u);
            }
        }
    }
}

TEST_F(TwoGpus, TheProcessHasAPoolForEach) {
    ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
    EXPECT_EQ(MemoryPoolManager::get_instance().device(), 1);
    EXPECT_EQ(&MemoryPoolManager::get_instance(), &MemoryPoolManager::get_instance(1));
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    EXPECT_EQ(MemoryPoolManager::get_instance().device(), 0);
    EXPECT_NE(&MemoryPoolManager::get_instance(), &MemoryPoolManager::get_instance(1));
}

TEST_F(TwoGpus, WhatBelongsToTheOtherIsRefused) {
    MemoryPoolManager zero(of(0));
    MemoryPoolManager one(of(1));
    const cudaStream_t stream = one.backend().create_stream();
    void* block = zero.allocate(1000);
    const auto refusal = [](const auto& call) -> std::string {
        try {
            call();
        } catch (const usage_error& error) {
            return error.what();
        }
        return {};
    };
    EXPECT_NE(refusal([&] { one.deallocate(block); }).find("another pool, of device 0"), std::string::npos);
#if CUDART_VERSION >= 12080
    EXPECT_NE(refusal([&] { zero.deallocate(block, stream); }).find("belongs to device 1"), std::string::npos);
    EXPECT_NE(refusal([&] { (void)zero.allocate(1000, stream); }).find("belongs to device 1"), std::string::npos);
    EXPECT_NE(refusal([&] { RegisteredStream registered(zero, stream); }).find("belongs to device 1"),
              std::string::npos);
#endif
    EXPECT_EQ(zero.statistics().live_blocks, 1u);
    EXPECT_EQ(one.statistics().deallocations, 0u);
    ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
    zero.deallocate(block); // while the other device is current
    EXPECT_EQ(zero.get_allocated_size(), 0u);
    one.backend().destroy_stream(stream);
}

} // namespace
} // namespace cuda_zstd
