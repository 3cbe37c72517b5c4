// SPDX-License-Identifier: MIT
// What a thread keeps at hand: who gets it, who does not, and that it comes home.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

class MagazineTest : public testing::TestWithParam<std::size_t> {
protected:
    static PoolOptions options(std::size_t max_bytes = 1024 * MiB) {
        PoolOptions made;
        made.backend = BackendKind::host;
        made.max_bytes = max_bytes;
        made.diagnostics = nullptr;
        return made;
    }
    /// A pair after which the next one is served at hand: the first free is the stream's first of the block.
    template <class Stream>
    static void warm(MemoryPoolManager& pool, std::size_t bytes, const Stream& stream) {
        for (int i = 0; i < 2; ++i)
            pool.deallocate(pool.allocate(bytes, stream), stream);
    }
    static std::string message_of(const std::function<void()>& call) {
        try {
            call();
        } catch (const usage_error& error) {
            return error.what();
        }
        return "no error";
    }

    Backend& backend = Backend::get(BackendKind::host);
};

TEST_P(MagazineTest, AFreedBlockStaysAtHandForItsStream) {
    MemoryPoolManager pool(options());
    const cudaStream_t stream = backend.create_stream();
    warm(pool, GetParam(), stream);
    EXPECT_GE(PoolInspector::cached_bytes(pool), GetParam());
    void* block = pool.allocate(GetParam(), stream);
    EXPECT_EQ(PoolInspector::cached_bytes(pool), 0u);
    EXPECT_GE(pool.usable_size(block), GetParam());
    pool.deallocate(block, stream);
    EXPECT_EQ(pool.allocate(GetParam(), stream), block);
    pool.deallocate(block, stream);
    const PoolStatistics s = pool.statistics();
    EXPECT_EQ(s.allocations, 4u);
    EXPECT_EQ(s.deallocations, 4u);
    EXPECT_EQ(s.live_blocks, 0u);
    EXPECT_EQ(s.allocated_bytes, 0u);
    EXPECT_EQ(s.peak_allocated_bytes, GetParam());
    // A slab may have a rest that is no slot.
    EXPECT_LE(s.free_bytes, s.capacity_bytes);
    EXPECT_GT(s.free_bytes, s.capacity_bytes - GetParam()) << "what is at hand counts as free";
    std::size_t free_bytes = 0;
    for (const PoolBlock& known : pool.snapshot())
        free_bytes += known.is_free ? known.size : 0;
    EXPECT_EQ(free_bytes, s.free_bytes);
    EXPECT_EQ(PoolInspector::check(pool), "");
    backend.destroy_stream(stream);
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 0u) << "trim reaches what is at hand";
}

TEST_P(MagazineTest, AnotherStreamNeverGetsWhatIsAtHand) {
    MemoryPoolManager pool(options());
    const cudaStream_t first = backend.create_stream();
    const cudaStream_t second = backend.create_stream();
    warm(pool, GetParam(), first);
    void* block = pool.allocate(GetParam(), first);
    pool.deallocate(block, first);
    std::promise<void> gate;
    backend.host_task(first, [&] { gate.get_future().wait(); });
    void* other = pool.allocate(GetParam(), second);
    EXPECT_NE(other, block);
    gate.set_value();
    pool.deallocate(other, second);
    EXPECT_EQ(PoolInspector::check(pool), "");
    backend.destroy_stream(first);
    backend.destroy_stream(second);
}

/// Work of the first stream may still use the block, though no ticket says so: the second stream must not get it
/// before.
TEST_P(MagazineTest, ABlockAtHandThatAnotherStreamFreesWaitsForBoth) {
    MemoryPoolManager pool(options());
    const cudaStream_t first = backend.create_stream();
    const cudaStream_t second = backend.create_stream();
    warm(pool, GetParam(), first);
    void* block = pool.allocate(GetParam(), first);
    std::promise<void> gate;
    backend.host_task(first, [opened = gate.get_future().share()] { opened.wait(); });
    pool.deallocate(block, first);
    ASSERT_EQ(pool.allocate(GetParam(), first), block);
    pool.deallocate(block, second);
    std::vector<void*> others;
    for (int i = 0; i < 3; ++i) {
        others.push_back(pool.allocate(GetParam(), second));
        EXPECT_NE(others.back(), block);
    }
    EXPECT_EQ(PoolInspector::check(pool), "");
    gate.set_value();
    for (void* other : others)
        pool.deallocate(other, second);
    backend.synchronize();
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 0u);
    EXPECT_EQ(PoolInspector::check(pool), "");
    backend.destroy_stream(first);
    backend.destroy_stream(second);
}

TEST_P(MagazineTest, MisuseOfABlockAtHandIsReported) {
    MemoryPoolManager pool(options());
    const cudaStream_t stream = backend.create_stream();
    warm(pool, GetParam(), stream);
    void* block = pool.allocate(GetParam(), stream);
    pool.deallocate(block, stream);
    const std::string twice = message_of([&] { pool.deallocate(block, stream); });
    EXPECT_NE(twice.find("is already free, freed on stream " + std::to_string(backend.stream_id(stream))),
              std::string::npos)
        << twice;
    EXPECT_NE(twice.find(std::to_string(GetParam()) + " bytes"), std::string::npos) << twice;
    EXPECT_NE(twice.find("allocation 3"), std::string::npos) << twice;
    const std::string inside = message_of([&] { pool.deallocate(static_cast<char*>(block) + 1, stream); });
    EXPECT_NE(inside.find("points into a block that is free"), std::string::npos) << inside;
    EXPECT_NE(message_of([&] { (void)pool.usable_size(block); }).find("already free"), std::string::npos);
    EXPECT_NE(message_of([&] { pool.release_device_arena(block, stream); }).find("already free"), std::string::npos);
    EXPECT_EQ(pool.allocate(GetParam(), stream), block) << "and nothing was changed";
    pool.deallocate(block, stream);
    EXPECT_EQ(PoolInspector::check(pool), "");
    backend.destroy_stream(stream);
}

TEST_P(MagazineTest, AThreadThatEndsLeavesItsBlocksToTheOthers) {
    MemoryPoolManager pool(options());
    const cudaStream_t stream = backend.create_stream();
    void* block = nullptr;
    std::thread([&] {
        warm(pool, GetParam(), stream);
        block = pool.allocate(GetParam(), stream);
        pool.deallocate(block, stream);
        EXPECT_GE(PoolInspector::cached_bytes(pool), GetParam());
    }).join();
    EXPECT_EQ(PoolInspector::cached_bytes(pool), 0u);
    EXPECT_EQ(pool.statistics().allocations, 3u) << "counts outlive their thread";
    const std::size_t capacity_bytes = pool.get_pool_size();
    std::vector<void*> all;
    for (std::size_t bytes = 0; bytes + GetParam() <= 2 * MiB; bytes += GetParam())
        all.push_back(pool.allocate(GetParam(), stream));
    if (all.empty()) all.push_back(pool.allocate(GetParam(), stream));
    if (GetParam() > MiB) {
        EXPECT_EQ(all.front(), block);
        EXPECT_EQ(pool.get_pool_size(), capacity_bytes);
    }
    for (void* one : all)
        pool.deallocate(one, stream);
    EXPECT_EQ(PoolInspector::check(pool), "");
    backend.destroy_stream(stream);
}

/// One thread allocates, another frees: what gathers at the second goes home in lots, so the pool does not grow.
TEST_P(MagazineTest, BlocksFreedByAnotherThreadComeHome) {
    MemoryPoolManager pool(options());
    const cudaStream_t stream = backend.create_stream();
    std::vector<void*> blocks(8);
    std::barrier turn(2);
    std::thread freeing([&] {
        for (int round = 0; round < 100; ++round) {
            turn.arrive_and_wait();
            for (void* block : blocks)
                pool.deallocate(block, stream);
            turn.arrive_and_wait();
        }
    });
    for (int round = 0; round < 100; ++round) {
        for (void*& block : blocks)
            block = pool.allocate(GetParam(), stream);
        turn.arrive_and_wait();
        turn.arrive_and_wait();
    }
    freeing.join();
    EXPECT_LE(pool.get_pool_size(), std::max(64 * MiB, 64 * GetParam()));
    EXPECT_EQ(pool.statistics().live_blocks, 0u);
    EXPECT_EQ(PoolInspector::check(pool), "");
    backend.destroy_stream(stream);
}

TEST_P(MagazineTest, ARegisteredStreamIsServedAndAskedLater) {
    MemoryPoolManager pool(options());
    const cudaStream_t handle = backend.create_stream();
    {
        RegisteredStream stream(pool, handle);
        EXPECT_EQ(stream.id(), backend.stream_id(handle));
        warm(pool, GetParam(), stream);
        void* block = pool.allocate(GetParam(), stream);
        pool.deallocate(block, handle);
        EXPECT_EQ(pool.allocate(GetParam(), handle), block) << "it is the same stream";
        pool.deallocate(block, stream);
        stream.announce_capture();
        EXPECT_NE(message_of([&] { (void)pool.allocate(GetParam(), stream); }).find("captured"), std::string::npos);
        EXPECT_NE(message_of([&] { pool.deallocate(block, stream); }).find("captured"), std::string::npos);
        stream.end_capture();
        EXPECT_EQ(pool.try_allocate(GetParam(), stream), block);
        pool.deallocate(block, stream);
        MemoryPoolManager another(options());
        EXPECT_NE(message_of([&] { (void)another.allocate(GetParam(), stream); }).find("another pool"),
                  std::string::npos);
        EXPECT_GE(PoolInspector::cached_bytes(pool), GetParam());
    }
    EXPECT_EQ(PoolInspector::cached_bytes(pool), 0u) << "the end of the registration brings its blocks to the pools";
    const cudaStream_t other = backend.create_stream();
    backend.destroy_stream(handle);
    const std::size_t capacity_bytes = pool.get_pool_size();
    pool.deallocate(pool.allocate(GetParam(), other), other);
    EXPECT_EQ(pool.get_pool_size(), capacity_bytes) << "and their ticket is recorded: no wait for all streams";
    EXPECT_EQ(pool.statistics().idle_waits, 0u);
    backend.destroy_stream(other);
}

INSTANTIATE_TEST_SUITE_P(Sizes, MagazineTest, testing::Values(1000, 40000, 200 << 10, 3 << 20));

/// A pool's thread-local parts and a thread's pools may end in any order.
TEST(Magazines, PoolsAndThreadsEndInAnyOrder) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.max_bytes = 256 * MiB;
    options.diagnostics = nullptr;
    for (int round = 0; round < 20; ++round) {
        std::vector<std::unique_ptr<MemoryPoolManager>> pools;
        for (int i = 0; i < 3; ++i)
            pools.push_back(std::make_unique<MemoryPoolManager>(options));
        std::barrier used(5);
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; ++t)
            threads.emplace_back([&, t] {
                for (int i = 0; i < 60; ++i) {
                    MemoryPoolManager& pool = *pools[static_cast<std::size_t>(i + t) % 3];
                    pool.deallocate(pool.allocate(5000));
                }
                used.arrive_and_wait();
                // Now the pools end, and so does this thread.
            });
        used.arrive_and_wait();
        pools.clear();
        for (std::thread& thread : threads)
            thread.join();
    }
}

/// The thread's cache is gone when this one's destructor runs: the pool still serves it.
TEST(Magazines, AThreadsLastWordsAreServed) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.max_bytes = 64 * MiB;
    MemoryPoolManager pool(options);
    struct LastWords {
        MemoryPoolManager* pool = nullptr;
        void* block = nullptr;
        ~LastWords() {
            if (pool == nullptr) return;
            pool->deallocate(block);
            pool->deallocate(pool->allocate(3000));
        }
    };
    std::thread([&] {
        static thread_local LastWords words;
        words.pool = &pool;
        words.block = pool.allocate(777);
    }).join();
    EXPECT_EQ(pool.statistics().live_blocks, 0u);
    EXPECT_EQ(pool.statistics().allocations, 2u);
    EXPECT_EQ(PoolInspector::check(pool), "");
}

/// Another stream asks for what went from a magazine to the pools: the next free answers, and later ones stay at hand.
TEST(Magazines, AStreamThatWasAskedGoesOnAtHand) {
    Backend& backend = Backend::get(BackendKind::host);
    PoolOptions options;
    options.backend = BackendKind::host;
    options.max_bytes = 64 * MiB;
    MemoryPoolManager pool(options);
    // The first and the last share a part of the small pool, so that the one looks at the other's slots.
    std::vector<cudaStream_t> streams;
    while (streams.empty() || backend.stream_id(streams.back()) != backend.stream_id(streams.front()) + 8)
        streams.push_back(backend.create_stream());
    const cudaStream_t first = streams.front();
    const cudaStream_t second = streams.back();
    const auto all = [&](cudaStream_t stream, std::size_t count) {
        std::vector<void*> blocks;
        for (std::size_t i = 0; i < count; ++i)
            blocks.push_back(pool.allocate(1000, stream));
        for (void* block : blocks)
            pool.deallocate(block, stream);
    };
    // More than a magazine holds: the rest is in the pools, under an open ticket.
    for (int i = 0; i < 3; ++i)
        all(first, 200);
    all(second, 2000);
    // One free answers.
    all(first, 1);
    const std::size_t before = PoolInspector::cached_bytes(pool);
    void* block = pool.allocate(1000, first);
    const std::size_t taken = PoolInspector::cached_bytes(pool);
    EXPECT_LT(taken, before);
    pool.deallocate(block, first);
    EXPECT_EQ(PoolInspector::cached_bytes(pool), before);
    EXPECT_EQ(PoolInspector::check(pool), "");
    for (const cudaStream_t stream : streams)
        backend.destroy_stream(stream);
}

/// Two threads free one address at once: one is told, every time, also when the block is at hand.
TEST(Magazines, OfTwoFreesOneIsRefused) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.max_bytes = 64 * MiB;
    MemoryPoolManager pool(options);
    std::barrier turn(2);
    std::atomic<void*> block{nullptr};
    std::atomic<int> told{0};
    constexpr int rounds = 500;
    const auto free_it = [&] {
        try {
            pool.deallocate(block.load());
        } catch (const usage_error&) {
            told.fetch_add(1);
        }
    };
    std::thread other([&] {
        for (int i = 0; i < rounds; ++i) {
            turn.arrive_and_wait();
            free_it();
            turn.arrive_and_wait();
        }
    });
    for (int i = 0; i < rounds; ++i) {
        block.store(pool.allocate(2000));
        turn.arrive_and_wait();
        free_it();
        turn.arrive_and_wait();
    }
    other.join();
    EXPECT_EQ(told.load(), rounds);
    EXPECT_EQ(pool.statistics().deallocations, static_cast<std::uint64_t>(rounds));
    EXPECT_EQ(PoolInspector::check(pool), "");
}

} // namespace
} // namespace cuda_zstd
