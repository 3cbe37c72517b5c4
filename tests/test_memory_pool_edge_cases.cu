// SPDX-License-Identifier: MIT
// What must be refused, and how; and the limits of what must not.
#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

PoolOptions limited(std::size_t max_bytes) {
    PoolOptions options;
    options.max_bytes = max_bytes;
    options.diagnostics = nullptr;
    return options;
}

/// What the call throws; fails the test when it throws nothing or something else.
template <class Error, class Call>
std::string text_of(const Call& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return {};
}

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
    for (const std::string& part : parts)
        EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

TEST(EdgeCases, ZeroBytesAreRefused) {
    MemoryPoolManager pool(limited(16 * MiB));
    expect_parts(text_of<usage_error>([&] { pool.allocate(0); }), {"allocate(0)"});
    EXPECT_THROW(pool.try_allocate(0), usage_error);
    EXPECT_THROW(pool.allocate_device_arena(0, nullptr), usage_error);
    EXPECT_EQ(pool.statistics().allocations, 0u);
}

TEST(EdgeCases, MoreThanThereCanBeSaysWhatWasAskedAndWhatThereIs) {
    MemoryPoolManager pool(limited(16 * MiB));
    void* block = pool.allocate(2 * MiB);
    expect_parts(text_of<out_of_memory>([&] { pool.allocate(std::numeric_limits<std::size_t>::max()); }),
                 {"18446744073709551615", "limit of 16777216", "2097152 allocated", "fragmentation"});
    expect_parts(text_of<out_of_memory>([&] { pool.allocate(16 * MiB + 1); }), {"16777217", "CUDA_ZSTD_POOL_MAX_SIZE"});
    expect_parts(text_of<out_of_memory>([&] { pool.allocate(15 * MiB); }), {"15728640", "the limit is 16777216"});
    EXPECT_THROW(pool.allocate(std::numeric_limits<std::size_t>::max() - 100), std::bad_alloc);
    EXPECT_EQ(pool.try_allocate(std::numeric_limits<std::size_t>::max()), nullptr);
    EXPECT_EQ(pool.try_allocate(15 * MiB), nullptr);
    EXPECT_EQ(pool.statistics().failed_allocations, 6u);
    void* rest = pool.allocate(14 * MiB);
    EXPECT_EQ(pool.get_pool_size(), 16 * MiB) << "the last byte under the limit is to be had";
    pool.deallocate(rest);
    pool.deallocate(block);
}

TEST(EdgeCases, ALimitAboveTheMachinesMemoryIsNotBlamed) {
    MemoryPoolManager pool(limited(std::size_t{1} << 46));
    expect_parts(text_of<out_of_memory>([&] { pool.allocate(std::size_t{1} << 45); }),
                 {"35184372088832", "the limit is 70368744177664", "the machine has"});
}

TEST(EdgeCases, ADevicePoolOfTheLargestSizeIsOutOfMemory) {
    MemoryPoolManager pool(limited(16 * MiB));
    expect_parts(
        text_of<out_of_memory>([&] { const DevicePool all(pool, std::numeric_limits<std::size_t>::max(), nullptr); }),
        {"18446744073709551615", "limit of 16777216"});
    EXPECT_EQ(pool.get_allocated_size(), 0u);
}

TEST(EdgeCases, ABufferThatCannotBeFreedStillOwnsItsBlock) {
    MemoryPoolManager pool(limited(16 * MiB));
    PooledBuffer buffer(pool, 1000);
    pool.reset();
    EXPECT_THROW(buffer.free(), usage_error);
    EXPECT_EQ(buffer.size_bytes(), 1000u);
    EXPECT_NE(buffer.release(), nullptr);
}

TEST(EdgeCases, WithoutALimitTheMachineIsTheLimit) {
    MemoryPoolManager pool(limited(0));
    EXPECT_THROW(pool.allocate(std::size_t{1} << 60), out_of_memory);
    EXPECT_EQ(pool.get_pool_size(), 0u) << "nothing is left mapped by the attempt";
}

TEST(EdgeCases, FreeingNullHasNoEffect) {
    MemoryPoolManager pool(limited(16 * MiB));
    EXPECT_NO_THROW(pool.deallocate(nullptr));
    EXPECT_NO_THROW(pool.release_device_arena(nullptr, nullptr));
    EXPECT_EQ(pool.statistics().deallocations, 0u);
}

class WrongFree : public testing::TestWithParam<std::size_t> {};

TEST_P(WrongFree, IsReportedWithTheBlocksHistoryAndChangesNothing) {
    MemoryPoolManager pool(limited(64 * MiB));
    const std::size_t bytes = GetParam();
    auto* block = static_cast<char*>(pool.allocate(bytes));
    void* other = pool.allocate(bytes);
    const std::string id = std::to_string(pool.backend().stream_id(nullptr));
    const std::string history = std::to_string(bytes) + " bytes";
    expect_parts(text_of<usage_error>([&] { pool.deallocate(block + 1); }),
                 {"1 bytes into a live block", history, "allocation 1"});
    expect_parts(text_of<usage_error>([&] { pool.deallocate(block + bytes - 1); }), {"into a live block"});
    pool.deallocate(block);
    expect_parts(text_of<usage_error>([&] { pool.deallocate(block); }),
                 {"already free", history, "allocation 1", "freed on stream " + id});
    int foreign = 0;
    expect_parts(text_of<usage_error>([&] { pool.deallocate(&foreign); }), {"never allocated from this pool"});
    EXPECT_EQ(pool.get_allocated_size(), bytes);
    EXPECT_EQ(pool.statistics().deallocations, 1u);
    EXPECT_EQ(pool.allocate(bytes), block) << "the block was free once, not twice";
    EXPECT_NE(pool.allocate(bytes), block);
    pool.deallocate(other);
}

INSTANTIATE_TEST_SUITE_P(Sizes, WrongFree, testing::Values(256, 10000, 100000, 3000000));

TEST(EdgeCases, APointerOfAnotherPoolIsForeign) {
    MemoryPoolManager first(limited(16 * MiB));
    MemoryPoolManager second(limited(16 * MiB));
    void* block = first.allocate(1000);
    EXPECT_THROW(second.deallocate(block), usage_error);
    EXPECT_THROW((void)second.usable_size(block), usage_error);
    EXPECT_GE(first.usable_size(block), 1000u);
    first.deallocate(block);
    EXPECT_THROW((void)first.usable_size(block), usage_error);
}

TEST(EdgeCases, AlignmentIsKeptOrRefused) {
    MemoryPoolManager pool(limited(64 * MiB));
    std::vector<void*> blocks;
    for (std::size_t alignment = 1; alignment <= 2 * MiB; alignment *= 2)
        for (const std::size_t bytes : {std::size_t{1}, std::size_t{5000}, std::size_t{70000}, MiB + 1}) {
            void* block = pool.allocate(bytes, alignment, nullptr);
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % std::max<std::size_t>(alignment, 256), 0u);
            blocks.push_back(block);
        }
    for (void* block : blocks)
        pool.deallocate(block);
    expect_parts(text_of<usage_error>([&] { pool.allocate(100, 768, nullptr); }), {"768", "power of two"});
    EXPECT_THROW(pool.allocate(100, 0, nullptr), usage_error);
    EXPECT_THROW(pool.allocate(100, 4 * MiB, nullptr), usage_error);
    EXPECT_EQ(pool.get_allocated_size(), 0u);
}

TEST(EdgeCases, EachSizeGoesToItsPool) {
    MemoryPoolManager pool(limited(64 * MiB));
    const auto live = [&](PoolKind kind) {
        return pool.statistics().pools[static_cast<std::size_t>(kind)].live_blocks;
    };
    void* small = pool.allocate(64 * 1024 - 1);
    EXPECT_EQ(live(PoolKind::small), 1u);
    void* medium = pool.allocate(64 * 1024);
    void* medium_too = pool.allocate(MiB);
    EXPECT_EQ(live(PoolKind::medium), 2u);
    void* large = pool.allocate(MiB + 1);
    EXPECT_EQ(live(PoolKind::large), 1u);
    for (void* block : {small, medium, medium_too, large})
        pool.deallocate(block);
    for (const PoolKind kind : {PoolKind::small, PoolKind::medium, PoolKind::large})
        EXPECT_EQ(live(kind), 0u);
}

/// Each pool's first block needs the next larger one, whether or not that has the memory mapped already.
TEST(EdgeCases, AHitNeedsNoLargerPool) {
    PoolOptions options = limited(64 * MiB);
    options.initial_bytes = 32 * MiB;
    MemoryPoolManager pool(options);
    for (const std::size_t bytes : {std::size_t{200000}, std::size_t{1000}}) {
        const auto kind = static_cast<std::size_t>(bytes < 65536 ? PoolKind::small : PoolKind::medium);
        pool.deallocate(pool.allocate(bytes));
        EXPECT_EQ(pool.statistics().pools[kind].hits, 0u) << bytes << " bytes";
        pool.deallocate(pool.allocate(bytes));
        EXPECT_EQ(pool.statistics().pools[kind].hits, 1u) << bytes << " bytes";
        EXPECT_EQ(pool.statistics().pools[kind].allocations, 2u);
    }
}

/// When the memory is at an end, what the pools keep for later must be found before a request is refused.
TEST(EdgeCases, NoPoolHoldsBackMemoryThatAnotherNeeds) {
    for (const Strategy strategy : {Strategy::best_fit, Strategy::first_fit, Strategy::segregated}) {
        PoolOptions options = limited(32 * MiB);
        options.strategy = strategy;
        MemoryPoolManager pool(options);
        for (const std::size_t bytes : {std::size_t{500}, std::size_t{50000}, std::size_t{500000}, 3 * MiB}) {
            std::vector<void*> blocks;
            while (void* block = pool.try_allocate(bytes))
                blocks.push_back(block);
            EXPECT_GE(blocks.size() * bytes, 32 * MiB * 3 / 4) << bytes << " bytes, " << to_string(strategy);
            for (void* block : blocks)
                pool.deallocate(block);
        }
        void* all = pool.try_allocate(32 * MiB);
        EXPECT_NE(all, nullptr) << to_string(strategy);
        pool.deallocate(all);
    }
}

TEST(EdgeCases, FreedNeighboursCoalesce) {
    for (const Strategy strategy : {Strategy::best_fit, Strategy::first_fit, Strategy::segregated}) {
        PoolOptions options = limited(32 * MiB);
        options.strategy = strategy;
        MemoryPoolManager pool(options);
        std::vector<void*> blocks;
        for (int i = 0; i < 16; ++i)
            blocks.push_back(pool.allocate(2 * MiB));
        // Every second one, then the others: each of these has free neighbours on both sides.
        for (std::size_t start : {0u, 1u})
            for (std::size_t i = start; i < blocks.size(); i += 2)
                pool.deallocate(blocks[i]);
        const PoolStatistics s = pool.statistics();
        EXPECT_EQ(s.free_blocks, 1u);
        EXPECT_EQ(s.largest_free_block_bytes, 32 * MiB);
        EXPECT_EQ(s.fragmentation(), 0.0);
    }
}

TEST(EdgeCases, FragmentationIsOneMinusLargestOverFree) {
    MemoryPoolManager pool(limited(32 * MiB));
    std::vector<void*> blocks;
    for (int i = 0; i < 16; ++i)
        blocks.push_back(pool.allocate(2 * MiB));
    for (std::size_t i = 0; i < blocks.size(); i += 2)
        pool.deallocate(blocks[i]);
    const PoolStatistics s = pool.statistics();
    EXPECT_EQ(s.free_bytes, 16 * MiB);
    EXPECT_EQ(s.free_blocks, 8u);
    EXPECT_DOUBLE_EQ(s.fragmentation(), 1.0 - 2.0 / 16.0);
    for (std::size_t i = 1; i < blocks.size(); i += 2)
        pool.deallocate(blocks[i]);
}

/// A pool on the GPU and a stream of its own, for captures.
class Captures : public testing::Test {
protected:
    void SetUp() override {
        if (!Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
        PoolOptions options = limited(64 * MiB);
        options.backend = BackendKind::cuda;
        pool_ = std::make_unique<MemoryPoolManager>(options);
        stream_ = pool_->backend().create_stream();
    }
    void TearDown() override {
        if (pool_ == nullptr) return;
        pool_->backend().destroy_stream(stream_);
        EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "no error is left behind";
    }
    void begin() { ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess); }
    cudaGraph_t end() {
        cudaGraph_t graph = nullptr;
        EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess) << "no call of the pool breaks a capture";
        return graph;
    }
    /// The driver tells a graph's end on a thread of its own.
    bool graphs_end() {
        for (unsigned tries = 0; tries < 1000; ++tries) {
            pool_->trim();
            if (pool_->statistics().live_graphs == 0) return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        return false;
    }
    std::unique_ptr<MemoryPoolManager> pool_;
    cudaStream_t stream_ = nullptr;
};

TEST_F(Captures, AFreeOfABlockFromOutsideIsRefused) {
    void* block = pool_->allocate(1000, stream_);
    begin();
    expect_parts(text_of<usage_error>([&] { pool_->deallocate(block, stream_); }), {"captured"});
    cudaGraphDestroy(end());
    pool_->deallocate(block, stream_);
    EXPECT_EQ(pool_->get_allocated_size(), 0u);
}

TEST_F(Captures, AGraphHasItsMemoryInEveryReplay) {
    constexpr std::size_t bytes = 3 * MiB + 5;
    Backend& backend = pool_->backend();
    auto* result = static_cast<unsigned char*>(backend.allocate_pinned(2 * bytes));
    begin();
    auto* first = static_cast<unsigned char*>(pool_->allocate(bytes, stream_));
    auto* second = static_cast<unsigned char*>(pool_->allocate(bytes, stream_));
    backend.fill_async(first, 7, bytes, stream_);
    backend.fill_async(second, 9, bytes, stream_);
    backend.copy_async(result, first, bytes, stream_);
    backend.copy_async(result + bytes, second, bytes, stream_);
    pool_->deallocate(first, stream_);
    EXPECT_EQ(pool_->allocate(bytes, stream_), first) << "the capture goes on with it";
    backend.fill_async(first, 11, bytes, stream_);
    cudaGraph_t graph = end();
    cudaGraphExec_t replay = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&replay, graph, 0), cudaSuccess);
    ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(pool_->statistics().live_graphs, 1u) << "what was instantiated retains the memory";
    const cudaStream_t other = backend.create_stream();
    for (unsigned round = 0; round < 3; ++round) {
        // Everything else that the pool has is written to meanwhile.
        std::vector<void*> rest;
        while (void* block = pool_->try_allocate(MiB, other)) {
            backend.fill_async(block, 1, MiB, other);
            rest.push_back(block);
        }
        EXPECT_FALSE(rest.empty());
        backend.fill_async(result, 0, 2 * bytes, stream_);
        ASSERT_EQ(cudaGraphLaunch(replay, stream_), cudaSuccess);
        backend.synchronize(stream_);
        EXPECT_EQ(std::count(result, result + bytes, 7), static_cast<std::ptrdiff_t>(bytes)) << "replay " << round;
        EXPECT_EQ(std::count(result + bytes, result + 2 * bytes, 9), static_cast<std::ptrdiff_t>(bytes));
        for (void* block : rest)
            pool_->deallocate(block, other);
    }
    expect_parts(text_of<usage_error>([&] { pool_->deallocate(second, stream_); }), {"belongs to the graph"});
    ASSERT_EQ(cudaGraphExecDestroy(replay), cudaSuccess);
    EXPECT_TRUE(graphs_end());
    EXPECT_EQ(pool_->get_pool_size(), 0u);
    backend.destroy_stream(other);
    backend.free_pinned(result);
}

TEST_F(Captures, AStreamThatJoinsTheCaptureSharesItsArena) {
    const cudaStream_t side = pool_->backend().create_stream();
    cudaEvent_t fork = nullptr;
    cudaEvent_t join = nullptr;
    ASSERT_EQ(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&join, cudaEventDisableTiming), cudaSuccess);
    begin();
    ASSERT_EQ(cudaEventRecord(fork, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(side, fork, 0), cudaSuccess);
    void* block = pool_->allocate(1000, side);
    pool_->backend().fill_async(block, 1, 1000, side);
    pool_->deallocate(block, side);
    EXPECT_NE(pool_->allocate(1000, stream_), block) << "nothing orders this stream behind the free";
    ASSERT_EQ(cudaEventRecord(join, side), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(stream_, join, 0), cudaSuccess);
    cudaGraph_t graph = end();
    EXPECT_EQ(pool_->statistics().live_graphs, 1u);
    cudaGraphDestroy(graph);
    EXPECT_TRUE(graphs_end());
    cudaEventDestroy(fork);
    cudaEventDestroy(join);
    pool_->backend().destroy_stream(side);
}

TEST_F(Captures, AnAbandonedCaptureLeaksNothing) {
    for (unsigned round = 0; round < 10; ++round) {
        begin();
        ASSERT_NE(pool_->try_allocate(20 * MiB, stream_), nullptr) << "round " << round;
        // A wait for the stream that is being captured breaks the capture.
        ASSERT_NE(cudaStreamSynchronize(stream_), cudaSuccess);
        cudaGraph_t graph = nullptr;
        ASSERT_NE(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
        EXPECT_EQ(graph, nullptr);
        (void)cudaGetLastError();
        ASSERT_TRUE(graphs_end()) << "round " << round;
    }
    EXPECT_EQ(pool_->get_pool_size(), 0u);
}

TEST_F(Captures, AnotherThreadUsesThePoolMeanwhile) {
    const cudaStream_t stream = pool_->backend().create_stream();
    begin();
    void* of_graph = pool_->allocate(MiB, stream_);
    std::thread other([&] {
        for (unsigned i = 0; i < 100; ++i) {
            void* block = pool_->allocate(MiB + i * 4096, stream);
            EXPECT_NE(block, of_graph);
            pool_->backend().fill_async(block, 1, MiB, stream);
            pool_->deallocate(block, stream);
        }
    });
    other.join();
    pool_->backend().fill_async(of_graph, 1, MiB, stream_);
    cudaGraphDestroy(end());
    EXPECT_TRUE(graphs_end());
    pool_->backend().destroy_stream(stream);
}

TEST_F(Captures, TrimAndTheLastMeansOfAnotherThreadLeaveItWhole) {
    Backend& backend = pool_->backend();
    const cudaStream_t stream = backend.create_stream();
    // Freed with no event recorded: only a wait for all streams would tell when the work is done.
    for (unsigned i = 0; i < 3; ++i) {
        void* block = pool_->allocate(6 * MiB, stream);
        backend.fill_async(block, 1, 6 * MiB, stream);
        pool_->deallocate(block, stream);
    }
    begin();
    void* of_graph = pool_->allocate(MiB, stream_);
    std::thread other([&] {
        const cudaStream_t asking = backend.create_stream();
        EXPECT_NO_THROW(pool_->trim());
        std::vector<void*> blocks;
        while (void* block = pool_->try_allocate(MiB, asking))
            blocks.push_back(block);
        EXPECT_FALSE(blocks.empty());
        for (void* block : blocks)
            pool_->deallocate(block, asking);
        EXPECT_NO_THROW(pool_->trim());
        EXPECT_THROW(pool_->reset(), usage_error);
        backend.destroy_stream(asking);
    });
    other.join();
    backend.fill_async(of_graph, 1, MiB, stream_);
    cudaGraph_t graph = end();
    EXPECT_NE(graph, nullptr) << "the capture was not broken";
    cudaGraphDestroy(graph);
    EXPECT_TRUE(graphs_end());
    backend.synchronize(stream);
    pool_->trim();
    EXPECT_EQ(pool_->get_pool_size(), 0u);
    backend.destroy_stream(stream);
}

} // namespace
} // namespace cuda_zstd
