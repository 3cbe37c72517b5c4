// SPDX-License-Identifier: MIT
// What waits for work that is pending, and what does not: trim, reset, the end of a stream and of a pool.
#include "stream_order_fixture.hpp"

#include <stdexcept>

namespace cuda_zstd {
namespace {

using namespace std::chrono_literals;

using PendingWorkTest = StreamOrderTest;

/// A stream that ends right after it deferred an event never records it: such streams must not make the pool grow.
TEST_F(PendingWorkTest, StreamsThatEndHoldLittleMemoryBack) {
    for (const std::size_t bytes : {std::size_t{50000}, MiB, 20 * MiB}) {
        MemoryPoolManager pool(options(4096 * MiB));
        for (int i = 0; i < 200; ++i) {
            const cudaStream_t stream = backend.create_stream();
            // The second free is of a block that the stream got from itself.
            for (int k = 0; k < 2; ++k)
                pool.deallocate(pool.allocate(bytes, stream), stream);
            backend.destroy_stream(stream);
        }
        EXPECT_LE(pool.get_pool_size(), 128 * MiB) << bytes << " bytes";
        EXPECT_EQ(pool.statistics().idle_waits, 0u);
        EXPECT_EQ(PoolInspector::check(pool), "");
        pool.trim();
        EXPECT_EQ(pool.get_pool_size(), 0u);
    }
}

/// What a task throws belongs to the one who synchronizes its stream.
TEST_F(PendingWorkTest, ResetAndTheEndOfAPoolLeaveTaskErrorsAlone) {
    {
        MemoryPoolManager pool(options(64 * MiB));
        backend.host_task(streams[0], [] { throw std::runtime_error("before the reset"); });
        EXPECT_NO_THROW(pool.reset());
        EXPECT_EQ(pool.statistics().resets, 1u);
        backend.host_task(streams[1], [] { throw std::runtime_error("before the end"); });
    }
    EXPECT_THROW(backend.synchronize(streams[0]), std::runtime_error);
    EXPECT_THROW(backend.synchronize(streams[1]), std::runtime_error);
}

/// While one thread waits in trim for a block of a pool, others go on with that pool.
TEST_F(PendingWorkTest, AWaitingTrimHoldsNobodyUp) {
    for (const std::size_t bytes : {std::size_t{200000}, 3 * MiB}) {
        MemoryPoolManager pool(options(256 * MiB));
        Gate gate;
        void* block = pool.allocate(bytes, streams[0]);
        gate.close(backend, streams[0]);
        pool.deallocate(block, streams[0]);
        std::atomic<bool> trimmed{false};
        std::thread trimming([&] {
            pool.trim();
            trimmed.store(true);
        });
        std::atomic<bool> served{false};
        std::thread allocating([&] {
            while (pool.statistics().host_waits == 0) // until the trim has come to its waiting
                std::this_thread::yield();
            for (int i = 0; i < 20; ++i) {
                std::this_thread::sleep_for(1ms);
                pool.deallocate(pool.allocate(bytes, streams[1]), streams[1]);
            }
            served.store(true);
        });
        // The gate stays closed for as long as it takes; the limit ends the test where the trim does hold others up.
        for (int i = 0; i < 6000 && !served.load(); ++i)
            std::this_thread::sleep_for(10ms);
        EXPECT_TRUE(served.load()) << bytes << " bytes";
        EXPECT_FALSE(trimmed.load()) << "trim waits for what is pending";
        gate.open();
        trimming.join();
        allocating.join();
    }
}

/// A handle that the runtime hands out again is another stream.
TEST_F(PendingWorkTest, ARecycledHandleIsAnotherStream) {
    MemoryPoolManager pool(options(64 * MiB));
    for (int i = 0; i < 200; ++i) {
        const cudaStream_t stream = backend.create_stream();
        void* block = pool.allocate(100000, stream);
        backend.fill_async(block, static_cast<unsigned char>(i), 100000, stream);
        pool.deallocate(block, stream);
        backend.destroy_stream(stream);
    }
    EXPECT_LE(pool.get_pool_size(), 32 * MiB) << "blocks of streams that are gone are used again";
    EXPECT_EQ(PoolInspector::check(pool), "");
}

/// Trim waits for pending frees: it gives back what they hold.
TEST_F(PendingWorkTest, TrimDrainsPendingFrees) {
    MemoryPoolManager pool(options(256 * MiB));
    void* block = pool.allocate(256 * MiB, streams[0]);
    write_later(0, block, 1, MiB);
    pool.deallocate(block, streams[0]);
    std::atomic<bool> trimmed{false};
    std::thread opening([&] {
        while (pool.statistics().host_waits == 0 && !trimmed.load()) // until the trim has come to its waiting
            std::this_thread::yield();
        gates[0].open();
    });
    pool.trim();
    trimmed.store(true);
    opening.join();
    EXPECT_EQ(pool.get_pool_size(), 0u);
}

} // namespace
} // namespace cuda_zstd
