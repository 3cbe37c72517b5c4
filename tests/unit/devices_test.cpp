// SPDX-License-Identifier: MIT
// Several devices: a pool for each, found by the current device or by index, and what belongs to one is not taken for
// another's. The host backend has two here (main.cpp).
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr BackendKind host = BackendKind::host;

class Devices : public testing::Test {
protected:
    void SetUp() override {
        if (Backend::device_count(host) < 2) GTEST_SKIP() << "CUDA_ZSTD_POOL_HOST_DEVICES is not 2 or more";
    }
    void TearDown() override { Backend::set_device(host, 0); }
    static PoolOptions options() {
        PoolOptions made;
        made.backend = host;
        made.max_bytes = 64 * MiB;
        made.diagnostics = nullptr;
        return made;
    }
    static std::string refusal(const std::function<void()>& call) {
        try {
            call();
        } catch (const usage_error& error) {
            return error.what();
        }
        return {};
    }
    /// What a refused call must leave as it was.
    struct Picture {
        std::size_t allocated_bytes, live_blocks, free_bytes, capacity_bytes;
        std::uint64_t deallocations;
        bool operator==(const Picture&) const = default;
    };
    static Picture picture(const MemoryPoolManager& pool) {
        const PoolStatistics s = pool.statistics();
        EXPECT_EQ(PoolInspector::check(pool), "");
        return {s.allocated_bytes, s.live_blocks, s.free_bytes, s.capacity_bytes, s.deallocations};
    }
};

TEST_F(Devices, EachHasABackendOfItsOwn) {
    Backend& first = Backend::get(host, 0);
    Backend& second = Backend::get(host, 1);
    EXPECT_NE(&first, &second);
    EXPECT_EQ(first.device(), 0);
    EXPECT_EQ(second.device(), 1);
    EXPECT_EQ(&Backend::get(host), &first);
    Backend::set_device(host, 1);
    EXPECT_EQ(&Backend::get(host), &second);
    std::thread([&] { EXPECT_EQ(&Backend::get(host), &first) << "each thread has its own current device"; }).join();
    {
        const DeviceScope scope(first);
        EXPECT_EQ(Backend::current_device(host), 0);
        const DeviceScope inner(second);
        EXPECT_EQ(Backend::current_device(host), 1);
    }
    EXPECT_EQ(Backend::current_device(host), 1);
    EXPECT_THROW((void)Backend::get(host, Backend::device_count(host)), configuration_error);
    EXPECT_THROW(Backend::set_device(host, -1), configuration_error);
}

TEST_F(Devices, APoolIsThatOfTheCurrentDeviceOrOfAnIndex) {
    MemoryPoolManager zero(options());
    EXPECT_EQ(zero.device(), 0);
    Backend::set_device(host, 1);
    MemoryPoolManager one(options());
    EXPECT_EQ(one.device(), 1);
    PoolOptions by_index = options();
    by_index.device = 0;
    EXPECT_EQ(MemoryPoolManager(by_index).device(), 0);
    by_index.device = 7;
    EXPECT_THROW(MemoryPoolManager{by_index}, configuration_error);
}

TEST_F(Devices, OneProcessPoolForEach) {
    if (Backend::cuda_available()) GTEST_SKIP() << "the process's pools are on the GPU here";
    MemoryPoolManager& zero = MemoryPoolManager::get_instance();
    EXPECT_EQ(&zero, &MemoryPoolManager::get_instance(0));
    EXPECT_EQ(zero.device(), 0);
    Backend::set_device(host, 1);
    MemoryPoolManager& one = MemoryPoolManager::get_instance();
    EXPECT_NE(&one, &zero);
    EXPECT_EQ(&one, &MemoryPoolManager::get_instance(1));
    EXPECT_EQ(one.device(), 1);
    EXPECT_THROW((void)MemoryPoolManager::get_instance(Backend::device_count(host)), configuration_error);
    EXPECT_THROW((void)MemoryPoolManager::get_instance(1000), configuration_error);
}

TEST_F(Devices, AFreeWhileAnotherDeviceIsCurrentGoesToThePoolsOwn) {
    for (const std::size_t bytes : {std::size_t{700}, std::size_t{100000}, 5 * MiB}) {
        MemoryPoolManager pool(options());
        void* block = pool.allocate(bytes);
        pool.backend().fill_async(block, 1, bytes, nullptr);
        Backend::set_device(host, 1);
        pool.deallocate(block);
        EXPECT_EQ(pool.get_allocated_size(), 0u);
        void* again = pool.allocate(bytes);
        pool.backend().synchronize(nullptr); // the bytes may be those that are being filled
        std::memset(again, 2, bytes);
        EXPECT_EQ(Backend::current_device(host), 1) << "a call leaves the current device alone";
        Backend::set_device(host, 0);
        pool.deallocate(again);
        pool.trim();
        EXPECT_EQ(pool.get_pool_size(), 0u);
    }
}

TEST_F(Devices, ABlockOfAnotherDevicesPoolIsReportedAndNothingChanges) {
    MemoryPoolManager zero(options());
    Backend::set_device(host, 1);
    MemoryPoolManager one(options());
    for (const std::size_t bytes : {std::size_t{700}, std::size_t{100000}, 5 * MiB}) {
        auto* block = static_cast<char*>(zero.allocate(bytes));
        void* own = one.allocate(bytes);
        const Picture of_zero = picture(zero);
        const Picture of_one = picture(one);
        for (const std::size_t offset : {std::size_t{0}, std::size_t{256}}) {
            const std::string said = refusal([&] { one.deallocate(block + offset); });
            EXPECT_NE(said.find("belongs to another pool, of device 0"), std::string::npos) << said;
            EXPECT_NE(said.find(std::to_string(bytes) + " bytes"), std::string::npos)
                << "with the block's history: " << said;
        }
        EXPECT_NE(refusal([&] { (void)one.usable_size(block); }).find("of device 0"), std::string::npos);
        EXPECT_EQ(picture(zero), of_zero);
        EXPECT_EQ(picture(one), of_one);
        zero.deallocate(block);
        EXPECT_EQ(refusal([&] { one.deallocate(block); }).find("of device 0"), std::string::npos)
            << "it lives nowhere any more";
        one.deallocate(own);
    }
}

TEST_F(Devices, AStreamOfAnotherDeviceIsRefused) {
    MemoryPoolManager zero(options());
    Backend& other = Backend::get(host, 1);
    const cudaStream_t stream = other.create_stream();
    void* block = zero.allocate(1000);
    const Picture before = picture(zero);
    for (const auto& call : std::vector<std::function<void()>>{
             [&] { (void)zero.allocate(1000, stream); },
             [&] { (void)zero.try_allocate(5 * MiB, stream); },
             [&] { zero.deallocate(block, stream); },
             [&] { RegisteredStream registered(zero, stream); },
             [&] { (void)zero.allocate_device_arena(2 * MiB, stream); },
         }) {
        const std::string said = refusal(call);
        EXPECT_NE(said.find("the stream belongs to device 1"), std::string::npos) << said;
    }
    EXPECT_EQ(picture(zero), before);
    zero.deallocate(block);
    other.destroy_stream(stream);
}

TEST_F(Devices, EightThreadsOnTwoDevices) {
    MemoryPoolManager zero(options());
    PoolOptions of_one = options();
    of_one.device = 1;
    MemoryPoolManager one(of_one);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 8; ++t)
        threads.emplace_back([&, t] {
            MemoryPoolManager& pool = t % 2 == 0 ? zero : one;
            Backend::set_device(host, static_cast<int>(t / 2 % 2)); // current or not
            const cudaStream_t stream = pool.backend().create_stream();
            for (unsigned i = 0; i < 300; ++i) {
                const std::size_t bytes = 256 + (i * 7919 + t * 104729) % 300000;
                void* block = pool.allocate(bytes, stream);
                pool.backend().fill_async(block, static_cast<unsigned char>(t), bytes, stream);
                pool.deallocate(block, stream);
            }
            pool.backend().destroy_stream(stream);
        });
    for (std::thread& thread : threads)
        thread.join();
    for (MemoryPoolManager* pool : {&zero, &one}) {
        EXPECT_EQ(pool->statistics().live_blocks, 0u);
        EXPECT_EQ(PoolInspector::check(*pool), "");
        pool->trim();
        EXPECT_EQ(pool->get_pool_size(), 0u);
    }
}

} // namespace
} // namespace cuda_zstd
