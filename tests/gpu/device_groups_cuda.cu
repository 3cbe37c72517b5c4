// SPDX-License-Identifier: MIT
// What only a GPU has: cooperative groups, graphs, grids far larger than what is resident, thread blocks of full size.
#include "cuda_zstd_device_pool.cuh"
#include "cuda_zstd_memory_pool_enhanced.h"

#include "cuda_zstd/device/pool_vector.hpp"

#include <cooperative_groups.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace {

namespace cg = cooperative_groups;
using namespace cuda_zstd;

#define ASSERT_CUDA(call) ASSERT_EQ(call, cudaSuccess) << cudaGetErrorString(cudaGetLastError())

class DeviceGroups : public ::testing::Test {
protected:
    void SetUp() override {
        if (!Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
        PoolOptions options;
        options.backend = BackendKind::cuda;
        manager_ = std::make_unique<MemoryPoolManager>(options);
        ASSERT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
        ASSERT_CUDA(cudaMallocHost(&errors_, sizeof(unsigned)));
        *errors_ = 0;
    }
    void TearDown() override {
        if (manager_ == nullptr) return;
        EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
        pool_.reset();
        EXPECT_EQ(manager_->get_allocated_size(), 0u);
        EXPECT_EQ(cudaFreeHost(errors_), cudaSuccess);
        EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    }
    void make_pool(std::size_t bytes) { pool_ = std::make_unique<DevicePool>(*manager_, bytes, stream_); }
    DevicePoolRef handle() const { return pool_->ref<cuda_env>(); }
    void expect_clean(std::uint64_t live_blocks = 0) {
        ASSERT_CUDA(cudaGetLastError());
        ASSERT_CUDA(cudaStreamSynchronize(stream_));
        EXPECT_EQ(*errors_, 0u);
        const HeapReport report = pool_->statistics(stream_);
        EXPECT_EQ(report.live_blocks, live_blocks);
        EXPECT_EQ(report.failed_allocations, 0u);
        EXPECT_EQ(report.invalid_frees + report.double_frees, 0u);
    }

    std::unique_ptr<MemoryPoolManager> manager_;
    std::unique_ptr<DevicePool> pool_;
    cudaStream_t stream_ = nullptr;
    unsigned* errors_ = nullptr; ///< pinned; kernels add to it
};

__device__ void complain(unsigned* errors, bool wrong) {
    if (wrong) atomicAdd(errors, 1u);
}

/// The group's threads share a block of memory: each writes its rank, all read all.
template <class Group>
__device__ void share_a_block(const DevicePoolRef& pool, const Group& group, unsigned salt, unsigned* errors) {
    const unsigned size = group.num_threads();
    const unsigned rank = group.thread_rank();
    auto* const memory = static_cast<unsigned*>(pool.allocate(group, size * sizeof(unsigned), 128));
    if (memory == nullptr || reinterpret_cast<std::uintptr_t>(memory) % 128 != 0) {
        complain(errors, true);
        return; // the same in every thread of the group
    }
    memory[rank] = salt + rank;
    group.sync();
    for (unsigned other = 0; other < size; ++other)
        complain(errors, memory[other] != salt + other);
    pool.deallocate(group, memory);
}

__global__ void group_kernel(DevicePoolRef pool, unsigned* errors) {
    const cg::thread_block block = cg::this_thread_block();
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    share_a_block(pool, block, blockIdx.x * 7919u, errors);
    share_a_block(pool, cg::tiled_partition<32>(block), thread / 32u * 31u, errors);
    share_a_block(pool, cg::tiled_partition<8>(block), thread / 8u * 37u, errors);
    const auto four = cg::tiled_partition<4>(block);
    share_a_block(pool, cg::tiled_partition<1>(block), thread * 41u, errors);
    share_a_block(pool, cg::tiled_partition<4>(cg::tiled_partition<16>(block)), thread / 4u * 43u, errors);
    // Half of the tiles only, in divergent code.
    if (thread / 4u % 2u == 0) share_a_block(pool, four, thread / 4u * 47u, errors);
    if (thread % 3u != 0) {
        const cg::coalesced_group some = cg::coalesced_threads();
        share_a_block(pool, some, 53u, errors);
    }
    share_a_block(pool, block, blockIdx.x * 59u, errors);
}

TEST_F(DeviceGroups, EveryKindOfGroupSharesABlock) {
    make_pool(std::size_t{64} << 20);
    group_kernel<<<200, 256, 0, stream_>>>(handle(), errors_);
    expect_clean();
}

template <class Group>
__device__ void share_many(const DevicePoolRef& pool, const Group& group, void** places, std::uint32_t count,
                           unsigned* errors) {
    const std::uint32_t got = pool.allocate_many(group, 80, count, places);
    complain(errors, got != count);
    for (std::uint32_t at = group.thread_rank(); at < got; at += group.num_threads())
        *static_cast<std::uint32_t*>(places[at]) = at;
    group.sync();
    for (std::uint32_t at = 0; at < got; ++at)
        complain(errors, *static_cast<std::uint32_t*>(places[at]) != at);
    pool.deallocate_many(group, got, places);
    group.sync(); // the places may be written again
}

constexpr std::uint32_t many = 100;

__global__ void many_kernel(DevicePoolRef pool, void** places, unsigned* errors) {
    const cg::thread_block block = cg::this_thread_block();
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    const auto warp = cg::tiled_partition<32>(block);
    const auto tile = cg::tiled_partition<8>(block);
    share_many(pool, warp, places + thread / 32u * many, many, errors);
    block.sync();
    share_many(pool, tile, places + thread / 8u * (many / 4u), many / 4u, errors);
    block.sync();
    if (threadIdx.x % 2u == 0) {
        const cg::coalesced_group even = cg::coalesced_threads();
        // Where a warp's even threads did not come together, each part takes its own places.
        const unsigned first = even.shfl(thread, 0);
        share_many(pool, even, places + first / 32u * many + first % 32u / 2u * (many / 16u), many / 16u, errors);
    }
    block.sync();
    share_many(pool, block, places + blockIdx.x * (blockDim.x / 32u) * many, many, errors);
}

TEST_F(DeviceGroups, ManyBlocksForEveryKindOfGroup) {
    make_pool(std::size_t{64} << 20);
    constexpr unsigned blocks = 50;
    constexpr unsigned threads = 128;
    const std::size_t bytes = blocks * (threads / 32) * many * sizeof(void*);
    void** places = nullptr;
    ASSERT_CUDA(cudaMalloc(&places, bytes));
    many_kernel<<<blocks, threads, 0, stream_>>>(handle(), places, errors_);
    expect_clean();
    EXPECT_EQ(cudaFree(places), cudaSuccess);
}

__global__ void allocate_kernel(DevicePoolRef pool, unsigned** places, unsigned count, unsigned* errors) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count) return;
    auto* const memory = static_cast<unsigned*>(pool.allocate(16 + thread % 200u));
    complain(errors, memory == nullptr);
    if (memory != nullptr) *memory = thread;
    places[thread] = memory;
}
__global__ void free_kernel(DevicePoolRef pool, unsigned** places, unsigned count, unsigned* errors) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= count || places[thread] == nullptr) return;
    complain(errors, *places[thread] != thread);
    complain(errors, pool.try_deallocate(places[thread]) != Status::ok);
}

TEST_F(DeviceGroups, AGraphAllocatesAnewWithEachLaunch) {
    make_pool(std::size_t{64} << 20);
    constexpr unsigned count = 20000;
    constexpr unsigned blocks = (count + 255) / 256;
    unsigned** places = nullptr;
    ASSERT_CUDA(cudaMalloc(&places, count * sizeof(unsigned*)));
    ASSERT_CUDA(cudaStreamSynchronize(stream_)); // the pool is set up
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t program = nullptr;
    ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    allocate_kernel<<<blocks, 256, 0, stream_>>>(handle(), places, count, errors_);
    free_kernel<<<blocks, 256, 0, stream_>>>(handle(), places, count, errors_);
    allocate_kernel<<<blocks, 256, 0, stream_>>>(handle(), places, count, errors_);
    int* const inside = reinterpret_cast<int*>(static_cast<char*>(pool_->arena()) + pool_->layout().pages_offset);
    EXPECT_THROW(pool_->deallocate(inside, stream_), usage_error) << "a graph would free it again and again";
    EXPECT_THROW(pool_->flush(stream_), usage_error);
    free_kernel<<<blocks, 256, 0, stream_>>>(handle(), places, count, errors_);
    ASSERT_CUDA(cudaStreamEndCapture(stream_, &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&program, graph, 0));
    for (int launch = 0; launch < 20; ++launch)
        ASSERT_CUDA(cudaGraphLaunch(program, stream_));
    expect_clean();
    EXPECT_EQ(cudaGraphExecDestroy(program), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(cudaFree(places), cudaSuccess);
}

__global__ void pair_kernel(DevicePoolRef pool, unsigned* errors) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    void* const memory = pool.allocate(16 + thread % 1000u);
    complain(errors, memory == nullptr);
    if (memory == nullptr) return;
    auto* const words = static_cast<volatile unsigned*>(memory); // written and read again, whatever the compiler knows
    words[0] = thread;
    words[3] = ~thread;
    complain(errors, words[0] != thread || words[3] != ~thread);
    pool.deallocate(memory);
}

TEST_F(DeviceGroups, AGridFarLargerThanWhatIsResident) {
    // 16 million threads of which a quarter of a million are resident: the heap could not hold them all.
    make_pool(std::size_t{1} << 30);
    pair_kernel<<<1u << 16, 256, 0, stream_>>>(handle(), errors_);
    expect_clean();
}

__global__ void many_fail_kernel(DevicePoolRef pool, unsigned* got) {
    auto* const memory = static_cast<unsigned*>(pool.allocate(4096));
    if (memory != nullptr) atomicAdd(got, 1u);
}

TEST_F(DeviceGroups, AFullHeapAnswersALargeGridAtOnce) {
    make_pool(std::size_t{16} << 20);
    many_fail_kernel<<<4096, 256, 0, stream_>>>(handle(), errors_); // counts what was got
    ASSERT_CUDA(cudaGetLastError());
    ASSERT_CUDA(cudaStreamSynchronize(stream_));
    const unsigned most = static_cast<unsigned>(pool_->layout().payload_bytes() / 4096);
    EXPECT_LE(*errors_, most);
    EXPECT_GE(*errors_, most * 99 / 100);
    EXPECT_EQ(pool_->statistics(stream_).failed_allocations, 4096u * 256u - *errors_);
}

/// A full thread block: pieces by every thread, nested frames, what does not fit from the heap.
__global__ void __launch_bounds__(1024) frame_kernel(DevicePoolRef pool, unsigned* errors) {
    __shared__ BlockScratch::Storage storage;
    cuda_block block;
    BlockScratch frame(block, pool.basic(), storage, 64 * 1024);
    auto* const kept = static_cast<unsigned*>(frame.allocate(32));
    complain(errors, kept == nullptr);
    if (kept != nullptr) *kept = threadIdx.x;
    for (unsigned turn = 0; turn < 4; ++turn) {
        ScratchScope<BlockScratch> scope(frame);
        const unsigned words = 1u + (threadIdx.x * 7u + turn * 13u) % 40u;
        unsigned* memory = nullptr;
        if (threadIdx.x % 5u != turn) memory = static_cast<unsigned*>(frame.allocate(words * sizeof(unsigned)));
        if (memory != nullptr)
            for (unsigned word = 0; word < words; ++word)
                memory[word] = threadIdx.x * 64u + word;
        complain(errors, memory == nullptr && threadIdx.x % 5u != turn);
        __syncthreads();
        if (memory != nullptr)
            for (unsigned word = 0; word < words; ++word)
                complain(errors, memory[word] != threadIdx.x * 64u + word);
    }
    complain(errors, kept != nullptr && *kept != threadIdx.x);
}

TEST_F(DeviceGroups, ScratchFramesOfAFullThreadBlock) {
    make_pool(std::size_t{256} << 20);
    frame_kernel<<<500, 1024, 0, stream_>>>(handle(), errors_);
    expect_clean();
}

struct Hit {
    unsigned thread;
    unsigned turn;
};

__global__ void append_kernel(PoolVectorRef<Hit> hits, unsigned turns, unsigned* errors) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    for (unsigned turn = 0; turn < turns; ++turn)
        if ((thread + turn) % 3u == 0) complain(errors, !hits.push_back(Hit{thread, turn}));
    const Hit pair[2] = {Hit{thread, turns}, Hit{thread, turns + 1}};
    complain(errors, hits.append(pair, thread % 2u * 2u) != thread % 2u * 2u);
}
__global__ void read_kernel(PoolVectorRef<Hit> hits, std::uint64_t size, unsigned* counts, unsigned* errors) {
    if (blockIdx.x == 0 && threadIdx.x == 0) complain(errors, hits.size() != size);
    for (std::uint64_t at = blockIdx.x * blockDim.x + threadIdx.x; at < size; at += gridDim.x * blockDim.x) {
        const Hit* const hit = hits.at(at);
        complain(errors, hit == nullptr);
        if (hit != nullptr) atomicAdd(&counts[hit->thread], 1u);
    }
}

TEST_F(DeviceGroups, AVectorThatAWholeGridAppendsTo) {
    make_pool(std::size_t{256} << 20);
    constexpr unsigned threads = 1u << 20;
    constexpr unsigned turns = 4;
    {
        PoolVector<Hit> hits(*manager_, *pool_, stream_);
        append_kernel<<<threads / 256, 256, 0, stream_>>>(hits.ref<cuda_env>(), turns, errors_);
        ASSERT_CUDA(cudaGetLastError());
        const std::uint64_t size = hits.size(stream_);
        EXPECT_EQ(hits.refused(stream_), 0u);
        unsigned* counts = nullptr;
        ASSERT_CUDA(cudaMalloc(&counts, threads * sizeof(unsigned)));
        ASSERT_CUDA(cudaMemsetAsync(counts, 0, threads * sizeof(unsigned), stream_));
        read_kernel<<<1000, 256, 0, stream_>>>(hits.ref<cuda_env>(), size, counts, errors_);
        ASSERT_CUDA(cudaGetLastError());
        std::vector<unsigned> seen(threads);
        ASSERT_CUDA(cudaMemcpyAsync(seen.data(), counts, threads * sizeof(unsigned), cudaMemcpyDeviceToHost, stream_));
        ASSERT_CUDA(cudaStreamSynchronize(stream_));
        std::uint64_t expected_size = 0;
        for (unsigned thread = 0; thread < threads; ++thread) {
            unsigned expected = thread % 2u * 2u;
            for (unsigned turn = 0; turn < turns; ++turn)
                expected += (thread + turn) % 3u == 0;
            ASSERT_EQ(seen[thread], expected) << "thread " << thread;
            expected_size += expected;
        }
        EXPECT_EQ(size, expected_size);
        const std::vector<Hit> found = hits.to_host(stream_);
        ASSERT_EQ(found.size(), expected_size);
        std::vector<unsigned> last(threads);
        for (const Hit& hit : found) {
            ASSERT_GE(hit.turn + 1, last.at(hit.thread)) << "a thread's elements are in the order of its appends";
            last[hit.thread] = hit.turn + 1;
        }
        EXPECT_EQ(cudaFree(counts), cudaSuccess);
    }
    expect_clean();
}

} // namespace
