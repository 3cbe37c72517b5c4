// SPDX-License-Identifier: MIT
// Blocks that go from stream to stream on the host backend, with work that would destroy data if the order were wrong.
#include "../test_seed.hpp"
#include "stream_order_fixture.hpp"

#include <random>
#include <vector>

namespace cuda_zstd {
namespace {

using namespace std::chrono_literals;

class StreamOrderBySize : public StreamOrderTest, public testing::WithParamInterface<std::size_t> {};

TEST_P(StreamOrderBySize, TheFreeingStreamGetsTheBlockAgainAtOnce) {
    MemoryPoolManager pool(options(64 * MiB));
    void* block = pool.allocate(GetParam(), streams[0]);
    write_later(0, block, 1, GetParam());
    pool.deallocate(block, streams[0]);
    EXPECT_EQ(pool.allocate(GetParam(), streams[0]), block);
    EXPECT_EQ(pool.statistics().device_waits, 0u);
    gates[0].open();
    pool.deallocate(block, streams[0]);
}

TEST_P(StreamOrderBySize, AnotherStreamGetsOtherMemoryWhileThereIsRoom) {
    MemoryPoolManager pool(options(64 * MiB));
    void* block = pool.allocate(GetParam(), streams[0]);
    write_later(0, block, 1, GetParam());
    pool.deallocate(block, streams[0]);
    void* other = pool.allocate(GetParam(), streams[1]);
    EXPECT_NE(other, block);
    EXPECT_EQ(pool.statistics().device_waits, 0u) << "nobody waits while there is room";
    backend.fill_async(other, 2, GetParam(), streams[1]);
    backend.synchronize(streams[1]);
    gates[0].open();
    backend.synchronize(streams[0]);
    EXPECT_TRUE(all(other, 2, GetParam()));
    pool.deallocate(other, streams[1]);
}

TEST_P(StreamOrderBySize, CompletedMemoryGoesToAnyStreamWithoutWaiting) {
    MemoryPoolManager pool(options(64 * MiB));
    void* block = pool.allocate(GetParam(), streams[0]);
    backend.fill_async(block, 1, GetParam(), streams[0]);
    pool.deallocate(block, streams[0]);
    backend.synchronize(streams[0]);
    pool.trim();
    void* other = pool.allocate(GetParam(), streams[1]);
    EXPECT_EQ(pool.statistics().device_waits, 0u);
    pool.deallocate(other, streams[1]);
    EXPECT_EQ(PoolInspector::check(pool), "");
}

INSTANTIATE_TEST_SUITE_P(Sizes, StreamOrderBySize, testing::Values(1000, 40000, 200 << 10, 3 << 20));

/// Three streams and a merge: the block that C gets was A's and B's, and must wait for both.
TEST_F(StreamOrderTest, AMergedBlockWaitsForBothStreams) {
    MemoryPoolManager pool(options(4 * MiB));
    void* a = pool.allocate(2 * MiB, streams[0]);
    void* b = pool.allocate(2 * MiB, streams[1]);
    write_later(0, a, 1, 2 * MiB);
    write_later(1, b, 2, 2 * MiB);
    pool.deallocate(a, streams[0]);
    pool.deallocate(b, streams[1]);
    void* c = pool.allocate(4 * MiB, streams[2]);
    ASSERT_EQ(c, std::min(a, b)) << "the two make the one";
    backend.fill_async(c, 3, 4 * MiB, streams[2]);
    give_wrong_order_a_chance();
    gates[0].open();
    give_wrong_order_a_chance();
    gates[1].open();
    backend.synchronize();
    EXPECT_TRUE(all(c, 3, 4 * MiB)) << "work of A or B ran after C's";
    EXPECT_EQ(pool.statistics().device_waits, 2u);
    pool.deallocate(c, streams[2]);
}

/// The remainder of a merged and split block still waits for the stream that used it.
TEST_F(StreamOrderTest, TheRestOfASplitBlockKeepsItsDependency) {
    MemoryPoolManager pool(options(4 * MiB));
    void* a = pool.allocate(4 * MiB, streams[0]);
    write_later(0, a, 1, 4 * MiB);
    pool.deallocate(a, streams[0]);
    // A takes a part of its own again, at once; B gets the rest, behind A's write.
    void* part = pool.allocate(2 * MiB, streams[0]);
    EXPECT_EQ(pool.statistics().device_waits, 0u);
    void* rest = pool.allocate(2 * MiB, streams[1]);
    backend.fill_async(rest, 2, 2 * MiB, streams[1]);
    give_wrong_order_a_chance();
    gates[0].open();
    backend.synchronize();
    EXPECT_TRUE(all(rest, 2, 2 * MiB));
    EXPECT_EQ(pool.statistics().device_waits, 1u);
    pool.deallocate(part, streams[0]);
    pool.deallocate(rest, streams[1]);
}

/// Freed on another stream: that one orders the reuse, and the block's own stream has to wait for it.
TEST_F(StreamOrderTest, TheFreeingStreamOrdersTheReuse) {
    MemoryPoolManager pool(options(4 * MiB));
    void* block = pool.allocate(4 * MiB, streams[0]);
    backend.synchronize(streams[0]);
    write_later(1, block, 1, 4 * MiB);
    pool.deallocate(block, streams[1]);
    void* again = pool.allocate(4 * MiB, streams[0]);
    ASSERT_EQ(again, block);
    backend.fill_async(again, 2, 4 * MiB, streams[0]);
    give_wrong_order_a_chance();
    gates[1].open();
    backend.synchronize();
    EXPECT_TRUE(all(again, 2, 4 * MiB));
    pool.deallocate(again, streams[0]);
}

TEST_F(StreamOrderTest, WaitThenGrowTakesPendingMemoryFirst) {
    PoolOptions made = options(64 * MiB);
    made.stream_policy = StreamPolicy::wait_then_grow;
    MemoryPoolManager pool(made);
    void* block = pool.allocate(32 * MiB, streams[0]);
    write_later(0, block, 1, 32 * MiB);
    pool.deallocate(block, streams[0]);
    void* other = pool.allocate(32 * MiB, streams[1]);
    EXPECT_EQ(other, block);
    EXPECT_EQ(pool.get_pool_size(), 32 * MiB);
    backend.fill_async(other, 2, 32 * MiB, streams[1]);
    give_wrong_order_a_chance();
    gates[0].open();
    backend.synchronize();
    EXPECT_TRUE(all(other, 2, 32 * MiB));
    pool.deallocate(other, streams[1]);
}

/// Two streams of one shard, no free slot but the first one's pending: the second gets a slab, and does not wait.
TEST_F(StreamOrderTest, ANewSlabIsUsedBeforeAnotherStreamsPendingSlots) {
    constexpr std::size_t bytes = 40000;
    std::vector<cudaStream_t> others;
    do
        others.push_back(backend.create_stream());
    while (backend.stream_id(others.back()) % 8 != backend.stream_id(streams[0]) % 8);
    MemoryPoolManager pool(options(64 * MiB));
    std::vector<void*> held{pool.allocate(bytes, streams[0])};
    std::size_t spare = 0;
    for (const PoolBlock& block : pool.snapshot())
        spare += block.is_free && block.size < (64u << 10);
    while (spare-- != 0)
        held.push_back(pool.allocate(bytes, streams[0]));
    void* pending = held.back();
    held.pop_back();
    write_later(0, pending, 1, bytes);
    pool.deallocate(pending, streams[0]);
    void* other = pool.allocate(bytes, others.back());
    EXPECT_NE(other, pending);
    EXPECT_EQ(pool.statistics().device_waits, 0u) << "nobody waits while there is room";
    gates[0].open();
    pool.deallocate(other, others.back());
    for (void* block : held)
        pool.deallocate(block, streams[0]);
    for (const cudaStream_t stream : others)
        backend.destroy_stream(stream);
}

/// Blocks of all sizes wander between the streams of several threads; each task fills its block, lets others run, and
/// finds its own bytes. Publishing a block before its event is recorded shows here, and under ThreadSanitizer.
TEST_F(StreamOrderTest, NoTaskSeesAnothersBytes) {
    MemoryPoolManager pool(options(8 * MiB));
    std::atomic<unsigned> damaged{0};
    std::atomic<unsigned> starved{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            std::mt19937_64 random(test_seed(t));
            std::array<cudaStream_t, 2> own{backend.create_stream(), backend.create_stream()};
            for (unsigned i = 0; i < 150; ++i) {
                const cudaStream_t stream = own[random() % 2];
                const std::size_t bytes = std::array<std::size_t, 4>{700, 9000, 150 << 10, 2 * MiB}[random() % 4];
                void* block = pool.try_allocate(bytes, stream);
                // The others' live blocks may lie so that no gap is left. Each frees its own before it takes the next.
                for (unsigned tries = 0; block == nullptr && tries < 10'000; ++tries) {
                    std::this_thread::sleep_for(1ms);
                    block = pool.try_allocate(bytes, stream);
                }
                if (block == nullptr) {
                    starved.fetch_add(1);
                    break;
                }
                const auto value = static_cast<unsigned char>(t * 64 + i % 64);
                backend.host_task(stream, [block, bytes, value, &damaged] {
                    std::memset(block, value, bytes);
                    std::this_thread::yield();
                    if (!all(block, value, bytes)) damaged.fetch_add(1);
                });
                pool.deallocate(block, stream);
            }
            for (const cudaStream_t stream : own)
                backend.destroy_stream(stream);
        });
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(damaged.load(), 0u);
    EXPECT_EQ(starved.load(), 0u) << "a block is freed as soon as its task is queued: there is always room in the end";
    EXPECT_EQ(pool.get_allocated_size(), 0u);
    EXPECT_EQ(PoolInspector::check(pool), "");
}

} // namespace
} // namespace cuda_zstd
