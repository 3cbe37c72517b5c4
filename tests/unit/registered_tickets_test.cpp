// SPDX-License-Identifier: MIT
// Large blocks that registered streams have freed behind tickets that are still open: others get them before the pool
// grows, and nobody waits for a stream that is busy.
#include "address_source.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"
#include "strict_backend.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

/// An event is known to be done only when it is asked about for the third time: a request that does not look again
/// after its retry has mapped more by then.
class LateBackend final : public detail::ManualBackend {
public:
    LateBackend() : ManualBackend(8) {}
    bool is_complete(BackendEvent event) override { return ++queries >= 3 && ManualBackend::is_complete(event); }
    unsigned queries = 3;
};

template <class TheBackend>
class RegisteredTickets {
public:
    static cudaStream_t handle(std::uint64_t id) { return detail::ManualBackend::handle(id); }
    /// A block that the stream has had before: it records nothing when it frees it again.
    template <class Stream>
    void* come_back(std::size_t bytes, const Stream& stream) {
        pool.deallocate(pool.allocate(bytes, stream), stream);
        return pool.allocate(bytes, stream);
    }

    TheBackend backend;
    MemoryPoolManager pool{[this] {
        PoolOptions made;
        made.custom_backend = &backend;
        made.custom_source = std::make_shared<Addresses>();
        made.growth = Growth::fixed_step;
        made.growth_step_bytes = 2 * MiB;
        made.diagnostics = nullptr;
        return made;
    }()};
    RegisteredStream a{pool, handle(1)};
    RegisteredStream b{pool, handle(2)};
};

TEST(RegisteredTickets, AnotherStreamGetsWhatIsDoneInsteadOfNewMemory) {
    RegisteredTickets<detail::StrictBackend> with;
    void* block = with.come_back(512 * MiB, with.a);
    with.pool.deallocate(block, with.a);
    void* again = with.pool.allocate(512 * MiB, with.b);
    EXPECT_EQ(again, block);
    EXPECT_EQ(with.pool.get_pool_size(), 512 * MiB);
    EXPECT_EQ(with.pool.statistics().device_waits, 0u);
    with.pool.deallocate(again, with.b);
    EXPECT_EQ(PoolInspector::check(with.pool), "");
}

TEST(RegisteredTickets, AnotherStreamGetsWhatIsDoneAMomentLater) {
    RegisteredTickets<LateBackend> with;
    void* block = with.come_back(512 * MiB, with.a);
    with.pool.deallocate(block, with.a);
    with.backend.queries = 0;
    void* again = with.pool.allocate(512 * MiB, with.b);
    EXPECT_EQ(again, block);
    EXPECT_EQ(with.pool.get_pool_size(), 512 * MiB);
    with.pool.deallocate(again, with.b);
}

TEST(RegisteredTickets, NobodyLooksAgainWhileACaptureGoesOn) {
    RegisteredTickets<LateBackend> with;
    with.pool.deallocate(with.come_back(512 * MiB, with.a), with.a);
    with.backend.queries = 0;
    const CaptureNotice notice(with.backend, with.handle(3));
    with.pool.deallocate(with.pool.allocate(512 * MiB, with.b), with.b);
    EXPECT_EQ(with.pool.get_pool_size(), 1024 * MiB);
}

TEST(RegisteredTickets, NobodyWaitsForABusyStream) {
    RegisteredTickets<detail::StrictBackend> with;
    void* block = with.come_back(512 * MiB, with.a);
    with.backend.submit(1);
    with.pool.deallocate(block, with.a);
    const unsigned idle_waits = with.backend.idle_waits;
    void* other = with.pool.allocate(512 * MiB, with.b);
    EXPECT_NE(other, block);
    EXPECT_EQ(with.pool.get_pool_size(), 1024 * MiB);
    EXPECT_EQ(with.pool.statistics().device_waits, 0u);
    EXPECT_EQ(with.backend.idle_waits, idle_waits);
    EXPECT_EQ(with.pool.allocate(512 * MiB, with.a), block) << "it is the stream's own still";
    with.pool.deallocate(other, with.b);
    with.pool.deallocate(block, with.a);
    EXPECT_EQ(PoolInspector::check(with.pool), "");
}

TEST(RegisteredTickets, NothingIsRecordedOnAStreamThatIsCaptured) {
    RegisteredTickets<detail::StrictBackend> with;
    const RegisteredStream c(with.pool, with.handle(3));
    void* block = with.come_back(512 * MiB, with.a);
    void* busy = with.come_back(512 * MiB, c);
    with.pool.deallocate(block, with.a);
    with.backend.submit(3);
    with.pool.deallocate(busy, c);
    with.a.announce_capture();
    with.backend.begin(1);
    void* other = with.pool.allocate(512 * MiB, with.b);
    EXPECT_NE(other, block);
    EXPECT_NE(other, busy);
    with.backend.end(1);
    with.a.end_capture();
    EXPECT_EQ(with.pool.allocate(512 * MiB, with.b), block);
    EXPECT_TRUE(with.backend.forbidden().empty());
    with.pool.deallocate(other, with.b);
    with.pool.deallocate(block, with.b);
}

/// What registered streams hold needs no wait for all streams, and does not make up for what others do not hold.
TEST(RegisteredTickets, WhatCanBeRecordedIsNotOutOfReach) {
    RegisteredTickets<detail::StrictBackend> with;
    const cudaStream_t other = with.handle(3);
    std::vector<void*> blocks;
    for (unsigned i = 0; i < 8; ++i)
        blocks.push_back(with.come_back(512 * MiB, with.b));
    with.pool.deallocate(with.come_back(40 * MiB, other), other);
    for (unsigned i = 0; i < 8; i += 2)
        with.pool.deallocate(blocks[i], with.b);
    const unsigned idle_waits = with.backend.idle_waits;
    blocks[0] = with.pool.allocate(600 * MiB, with.b);
    EXPECT_EQ(with.backend.idle_waits, idle_waits);
    for (unsigned i : {0u, 1u, 3u, 5u, 7u})
        with.pool.deallocate(blocks[i], with.b);
    EXPECT_EQ(PoolInspector::check(with.pool), "");
}

/// A pool that is to map little keeps little behind a ticket: no other chunk is exchanged for it.
TEST(RegisteredTickets, WithExactGrowthTheBoundStays) {
    detail::StrictBackend backend;
    PoolOptions options;
    options.custom_backend = &backend;
    options.custom_source = std::make_shared<Addresses>();
    options.growth = Growth::exact;
    MemoryPoolManager pool(options);
    const RegisteredStream stream(pool, detail::ManualBackend::handle(1));
    unsigned recorded = 0;
    backend.before_record = [&](std::uint64_t) { ++recorded; };
    for (unsigned i = 0; i < 100; ++i)
        pool.deallocate(pool.allocate(64 * MiB, stream), stream);
    EXPECT_EQ(recorded, 100u);
}

} // namespace
} // namespace cuda_zstd
