// SPDX-License-Identifier: MIT
// The kernels of the documents. What stands between `[name]` and `[/name]` is in one of them word for word:
// check_snippets.py compares the two.
#include "cuda_zstd_device_pool.cuh"
#include "cuda_zstd_memory_pool_enhanced.h"

#include "cuda_zstd/device/pool_vector.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace {

// [kernel-thread]
struct Divisors {
    unsigned* values;
    unsigned count;
};

// How many divisors a number has is known only when they have been counted, so each thread takes what it needs.
__global__ void find_divisors(cuda_zstd::DevicePoolRef pool, Divisors* results, unsigned numbers) {
    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x + 1;
    if (n > numbers) return;
    unsigned count = 0;
    for (unsigned d = 1; d <= n; ++d)
        count += n % d == 0;

    auto* values = static_cast<unsigned*>(pool.allocate(count * sizeof(unsigned)));
    results[n - 1] = {values, values == nullptr ? 0 : count};
    if (values == nullptr) return; // the pool is full: counted there, and the caller sees which number is missing
    for (unsigned d = 1; d <= n; ++d)
        if (n % d == 0) *values++ = d;
}

// Any thread of any later kernel may give the blocks back.
__global__ void free_divisors(cuda_zstd::DevicePoolRef pool, Divisors* results, unsigned numbers) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < numbers) pool.deallocate(results[i].values);
}
// [/kernel-thread]

// [kernel-warp]
// One call for the warp: every lane gets the same block. A frame is cheaper still, and gives all of it back at its end.
__global__ void sum_with_scratch(cuda_zstd::DevicePoolRef pool, unsigned* sums) {
    cuda_zstd::cuda_env env;
    const unsigned lane = threadIdx.x % 32;
    cuda_zstd::ScratchFrame frame(env, pool.basic(), 4096);

    auto* squares = static_cast<unsigned*>(frame.allocate(32 * sizeof(unsigned)));
    if (squares == nullptr) return; // the same answer in every lane
    auto* total = static_cast<unsigned*>(pool.allocate_warp(sizeof(unsigned)));
    if (total == nullptr) return;
    squares[lane] = lane * lane;
    __syncwarp();
    if (lane == 0) {
        *total = 0;
        for (unsigned i = 0; i < 32; ++i)
            *total += squares[i];
        sums[blockIdx.x] = *total;
    }
    pool.deallocate_warp(total);
}
// [/kernel-warp]

// [kernel-block]
// A thread block's frame: any thread takes any size from it, in any branch. What outgrows the region comes from the
// pool, and all of it goes back at the end of the scope, which every thread of the block reaches.
__global__ void find_primes(cuda_zstd::DevicePoolRef pool, cuda_zstd::PoolVectorRef<unsigned> primes) {
    __shared__ cuda_zstd::BlockScratch::Storage storage;
    cuda_zstd::cuda_block block;
    cuda_zstd::BlockScratch frame(block, pool.basic(), storage, 64 * 1024);

    const unsigned n = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned count = 0;
    for (unsigned d = 1; d <= n; ++d)
        count += n % d == 0;
    auto* divisors = static_cast<unsigned*>(frame.allocate(count * sizeof(unsigned))); // null for 0 bytes
    if (divisors != nullptr)
        for (unsigned d = 1, at = 0; d <= n; ++d)
            if (n % d == 0) divisors[at++] = d;
    if (count == 2 && divisors != nullptr) primes.push_back(divisors[1]); // false when the pool is full
}
// [/kernel-block]

TEST(GuideKernels, AppendToAVector) {
    if (!cuda_zstd::Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
    cuda_zstd::PoolOptions options;
    options.backend = cuda_zstd::BackendKind::cuda;
    cuda_zstd::MemoryPoolManager manager(options);
    cudaStream_t stream = manager.backend().create_stream();
    {
        cuda_zstd::DevicePool pool(manager, std::size_t{64} << 20, stream);
        const cuda_zstd::DevicePoolRef handle = pool.ref<cuda_zstd::cuda_env>();
        // [vector-host]
        cuda_zstd::PoolVector<unsigned> primes(manager, pool, stream);
        find_primes<<<8, 128, 0, stream>>>(handle, primes.ref<cuda_zstd::cuda_env>());
        std::vector<unsigned> found = primes.to_host(stream); // all of them, in no order but that of the appends
        // [/vector-host]
        EXPECT_EQ(found.size(), 172u) << "primes below 1024";
        EXPECT_EQ(primes.refused(stream), 0u);
    }
    manager.backend().destroy_stream(stream);
    EXPECT_EQ(manager.get_allocated_size(), 0u);
}

TEST(ReadmeKernels, AllocateFromTheDevicePool) {
    if (!cuda_zstd::Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
    constexpr unsigned numbers = 2000;
    cuda_zstd::PoolOptions options;
    options.backend = cuda_zstd::BackendKind::cuda;
    cuda_zstd::MemoryPoolManager manager(options);
    cudaStream_t stream = manager.backend().create_stream();
    std::vector<Divisors> found(numbers);
    {
        cuda_zstd::PooledBuffer results(manager, numbers * sizeof(Divisors), stream);
        // [kernel-host]
        cuda_zstd::DevicePool pool(manager, std::size_t{64} << 20, stream);
        const cuda_zstd::DevicePoolRef handle = pool.ref<cuda_zstd::cuda_env>();

        const unsigned blocks = (numbers + 255) / 256;
        find_divisors<<<blocks, 256, 0, stream>>>(handle, results.as<Divisors>(), numbers);
        const cuda_zstd::HeapReport full = pool.statistics(stream);
        free_divisors<<<blocks, 256, 0, stream>>>(handle, results.as<Divisors>(), numbers);
        pool.compact(stream); // empty slabs become free pages, for blocks of any size
        // [/kernel-host]

        // [compaction-policy]
        cuda_zstd::CompactionPolicy policy;
        policy.every_calls = 1000;           // and after failed allocations, unless told otherwise
        policy.free_slot_share_above = 0.25; // a quarter of all pages in use is free slots
        pool.set_compaction_policy(policy);

        // Between launches of kernels that use the pool; it waits for nothing.
        const cuda_zstd::CompactionReason reason = pool.between_launches(stream);

        const cuda_zstd::HeapReport report = pool.report(); // the last one: a copy out of pinned memory
        // [/compaction-policy]
        EXPECT_TRUE(reason == cuda_zstd::CompactionReason::none || reason == cuda_zstd::CompactionReason::free_share);
        EXPECT_LE(report.live_blocks, numbers);
        manager.backend().copy_async(found.data(), results.data(), numbers * sizeof(Divisors), stream);
        const cuda_zstd::HeapReport empty = pool.statistics(stream);
        EXPECT_EQ(full.live_blocks, numbers);
        EXPECT_EQ(full.failed_allocations, 0u);
        EXPECT_EQ(empty.live_blocks, 0u);
        EXPECT_EQ(found[11].count, 6u) << "divisors of 12";

        cuda_zstd::PooledBuffer sums(manager, sizeof(unsigned), stream);
        unsigned sum = 0;
        sum_with_scratch<<<1, 32, 0, stream>>>(handle, sums.as<unsigned>());
        manager.backend().copy_async(&sum, sums.data(), sizeof sum, stream);
        EXPECT_EQ(pool.statistics(stream).live_blocks, 0u) << "the frame has given its region back";
        EXPECT_EQ(sum, 10416u);
    }
    manager.backend().destroy_stream(stream);
    EXPECT_EQ(manager.get_allocated_size(), 0u);
}

} // namespace
