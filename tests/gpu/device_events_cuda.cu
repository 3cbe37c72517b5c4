// SPDX-License-Identifier: MIT
#include "../suite/cuda_launch.cuh"

#include "../suite/device_events.inc"
#include "cuda_zstd_device_pool.cuh"

namespace cuda_zstd::test {
namespace {

/// Each warp takes one block together and many apart; every third thread works alone.
__global__ void all_forms_kernel(TracedDevicePoolRef pool, void** blocks) {
    void* const together = pool.allocate_warp(200);
    pool.deallocate_warp(together);
    const auto warp = cooperative_groups::tiled_partition<32>(cooperative_groups::this_thread_block());
    void** const own = blocks + (blockIdx.x * blockDim.x + threadIdx.x) / 32 * 40;
    const std::uint32_t got = pool.allocate_many(warp, 48, 40, own);
    pool.deallocate_many(warp, got, own);
    if (threadIdx.x % 3 == 0) pool.deallocate(pool.allocate(1000));
    pool.deallocate_block(pool.allocate_block(300));
}

} // namespace

TEST_F(DeviceEvents, OfEveryFormOfCall) {
    make(std::size_t{64} << 20, 1u << 16);
    constexpr unsigned grid = 20;
    constexpr unsigned threads = 96;
    const Places blocks(grid * threads / 32 * 40);
    all_forms_kernel<<<grid, threads, 0, stream_>>>(traced(taking), blocks.get());
    check_launch("all_forms_kernel");
    const std::size_t pairs = grid * (threads / 32 * (1 + 40) + threads / 3 + 1);
    EXPECT_EQ(events_->drain(stream_).size(), 2 * pairs);
    EXPECT_EQ(total(taking).allocations, pairs);
    EXPECT_EQ(total(taking).frees, pairs);
    EXPECT_EQ(total(taking).live_blocks, 0u);
    EXPECT_EQ(total(taking).failures, 0u);
    expect_empty(compacted());
}

} // namespace cuda_zstd::test
