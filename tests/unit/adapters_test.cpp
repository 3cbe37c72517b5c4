// SPDX-License-Identifier: MIT
// The pool as a cuda::mr resource and as Thrust's allocator, and a resource as the memory of a pool.
#include "cuda_zstd/host/memory_resource.hpp"
#include "cuda_zstd/host/thrust_allocator.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>
#include <thrust/execution_policy.h>
#include <thrust/sort.h>
#include <thrust/system/cpp/execution_policy.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

#if CCCL_VERSION < 3001000
static_assert(cuda::mr::resource_with<PoolResource, cuda::mr::device_accessible>);
static_assert(cuda::mr::async_resource_with<PoolResource, cuda::mr::device_accessible>);
#else
static_assert(cuda::mr::synchronous_resource_with<PoolResource, cuda::mr::device_accessible>);
static_assert(cuda::mr::resource_with<PoolResource, cuda::mr::device_accessible>);
#endif

std::shared_ptr<MemoryPoolManager> host_pool(PoolOptions options = {}) {
    options.backend = BackendKind::host;
    options.diagnostics = nullptr;
    return std::make_shared<MemoryPoolManager>(options);
}

TEST(PoolResource, BothSpellingsReachThePool) {
    PoolResource resource(host_pool());
    const PoolResource copy = resource;
    EXPECT_EQ(copy, resource);
    EXPECT_NE(PoolResource(host_pool()), resource);
    MemoryPoolManager& pool = resource.pool();
    const cudaStream_t stream = pool.backend().create_stream();
    void* ordered = resource.allocate(cuda::stream_ref{stream}, 5000, 4096);
    void* ready = resource.allocate_sync(100);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(ordered) % 4096, 0u);
    EXPECT_EQ(pool.get_allocated_size(), 5100u);
    std::memset(ready, 1, 100);
    resource.deallocate(cuda::stream_ref{stream}, ordered, 5000, 4096);
    resource.deallocate_sync(ready, 100);
    EXPECT_EQ(pool.get_allocated_size(), 0u);
    // A caller with nothing to store gets an address of its own.
    void* empty = resource.allocate(cuda::stream_ref{stream}, 0);
    EXPECT_NE(empty, nullptr);
    resource.deallocate(cuda::stream_ref{stream}, empty, 0);
    EXPECT_EQ(pool.get_allocated_size(), 0u);
    pool.backend().destroy_stream(stream);
}

TEST(PoolResource, OutOfMemoryIsABadAlloc) {
    PoolOptions options;
    options.max_bytes = 4 * MiB;
    PoolResource resource(host_pool(options));
    EXPECT_THROW((void)resource.allocate_sync(64 * MiB), std::bad_alloc);
}

/// Ordinary memory as a resource that promises no more than 256 bytes of alignment, up to a limit.
struct SmallResource {
    std::size_t* live_bytes;
    std::size_t limit_bytes;

    void* allocate(std::size_t bytes, std::size_t) { return take(bytes); }
    void deallocate(void* block, std::size_t bytes, std::size_t) noexcept { give(block, bytes); }
    void* allocate_sync(std::size_t bytes, std::size_t) { return take(bytes); }
    void deallocate_sync(void* block, std::size_t bytes, std::size_t) noexcept { give(block, bytes); }

private:
    void* take(std::size_t bytes) {
        if (*live_bytes + bytes > limit_bytes) throw std::bad_alloc();
        *live_bytes += bytes;
        return std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    }
    void give(void* block, std::size_t bytes) noexcept {
        *live_bytes -= bytes;
        std::free(block);
    }
};

TEST(ResourceSource, ArenasComeFromTheResourceAndGoBack) {
    std::size_t live_bytes = 0;
    {
        PoolOptions options;
        options.custom_source =
            std::make_shared<ResourceSource<SmallResource>>(SmallResource{&live_bytes, 64 * MiB}, 64 * MiB);
        options.growth = Growth::exact;
        const auto pool = host_pool(options);
        void* block = pool->allocate(10 * MiB, 2 * MiB, cudaStream_t{});
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % (2 * MiB), 0u);
        std::memset(block, 1, 10 * MiB);
        EXPECT_GE(live_bytes, 10 * MiB);
        EXPECT_EQ(pool->try_allocate(60 * MiB), nullptr) << "the resource has no more";
        pool->deallocate(block);
        pool->trim();
        EXPECT_EQ(live_bytes, 0u);
        block = pool->allocate(3 * MiB);
        pool->deallocate(block);
    }
    EXPECT_EQ(live_bytes, 0u) << "a pool that ends gives everything back";
}

TEST(ThrustAllocator, ServesTheTemporaryStorageOfASort) {
    const auto pool = host_pool();
    ThrustAllocator allocator(*pool);
    std::vector<std::uint32_t> keys(10000);
    std::iota(keys.rbegin(), keys.rend(), 0u);
    thrust::stable_sort(thrust::cpp::par(allocator), keys.begin(), keys.end());
    EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
    EXPECT_GE(pool->statistics().allocations, 1u) << "the sort needs room for a copy";
    EXPECT_EQ(pool->get_allocated_size(), 0u);
}

} // namespace
} // namespace cuda_zstd
