// SPDX-License-Identifier: MIT
// The only stream of a pool: what it frees waits for one event together, however much it is, until somebody else comes,
// who gets it.
#include "address_source.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"
#include "strict_backend.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

/// An event is known to be done only when it is asked about for the third time, as on a GPU, where it takes a moment.
class LateBackend final : public detail::StrictBackend {
public:
    bool is_complete(BackendEvent event) override { return ++queries >= 3 && StrictBackend::is_complete(event); }
    unsigned queries = 3;
};

template <class TheBackend>
class LonePool {
public:
    explicit LonePool(Growth growth = Growth::fixed_step, std::size_t max_bytes = 0)
        : pool(options(backend, growth, max_bytes)) {
        backend.before_record = [this](std::uint64_t) { ++recorded; };
    }

    static cudaStream_t handle(std::uint64_t id) { return detail::ManualBackend::handle(id); }
    /// Frees a block that the stream has had before: then it defers the event.
    template <class Stream>
    void* free_one(std::size_t bytes, const Stream& stream) {
        pool.deallocate(pool.allocate(bytes, stream), stream);
        void* const block = pool.allocate(bytes, stream);
        pool.deallocate(block, stream);
        return block;
    }

    TheBackend backend;
    unsigned recorded = 0;
    MemoryPoolManager pool;
    std::unique_ptr<RegisteredStream> owned = std::make_unique<RegisteredStream>(pool, handle(1));
    RegisteredStream& lone = *owned;
    void end() { owned.reset(); }

private:
    static PoolOptions options(TheBackend& backend, Growth growth, std::size_t max_bytes) {
        PoolOptions made;
        made.custom_backend = &backend;
        made.custom_source = std::make_shared<Addresses>();
        made.growth = growth;
        made.max_bytes = max_bytes;
        made.growth_step_bytes = 2 * MiB;
        made.diagnostics = nullptr;
        return made;
    }
};

using Lone = LonePool<detail::StrictBackend>;

TEST(LoneStreamOfAPool, RecordsAnEventFor32LargeFrees) {
    Lone with;
    with.free_one(512 * MiB, with.lone);
    with.recorded = 0;
    for (unsigned i = 0; i < 64; ++i)
        with.pool.deallocate(with.pool.allocate(512 * MiB, with.lone), with.lone);
    EXPECT_EQ(with.recorded, 2u);
}

TEST(LoneStreamOfAPool, WithExactGrowthTheBoundStays) {
    Lone with(Growth::exact);
    for (unsigned i = 0; i < 100; ++i)
        with.pool.deallocate(with.pool.allocate(64 * MiB, with.lone), with.lone);
    EXPECT_EQ(with.recorded, 100u);
}

TEST(LoneStreamOfAPool, AnotherGetsWhatItFreedInsteadOfNewMemory) {
    Lone with;
    void* const block = with.free_one(512 * MiB, with.lone);
    void* const again = with.pool.allocate(512 * MiB, with.handle(2));
    EXPECT_EQ(again, block);
    EXPECT_EQ(with.pool.get_pool_size(), 512 * MiB);
    with.pool.deallocate(again, with.handle(2));
    with.recorded = 0;
    with.free_one(512 * MiB, with.lone);
    EXPECT_EQ(with.recorded, 2u) << "with company it is bounded as all are";
    EXPECT_EQ(PoolInspector::check(with.pool), "");
}

TEST(LoneStreamOfAPool, AnotherGetsItAMomentLater) {
    LonePool<LateBackend> with;
    void* const block = with.free_one(512 * MiB, with.lone);
    with.backend.queries = 0;
    EXPECT_EQ(with.pool.allocate(512 * MiB, with.handle(2)), block);
    EXPECT_EQ(with.pool.get_pool_size(), 512 * MiB);
    with.pool.deallocate(block, with.handle(2));
}

TEST(LoneStreamOfAPool, IsNoLongerAloneWhenAnotherIsRegistered) {
    Lone with;
    void* const block = with.free_one(512 * MiB, with.lone);
    with.recorded = 0;
    const RegisteredStream second(with.pool, with.handle(2));
    EXPECT_EQ(with.recorded, 1u);
    EXPECT_EQ(with.pool.allocate(512 * MiB, second), block);
    with.pool.deallocate(block, second);
}

TEST(LoneStreamOfAPool, NobodyWaitsForItWhenItIsBusy) {
    Lone with;
    with.backend.submit(1);
    void* const block = with.free_one(512 * MiB, with.lone);
    const unsigned idle_waits = with.backend.idle_waits;
    void* const other = with.pool.allocate(512 * MiB, with.handle(2));
    EXPECT_NE(other, block);
    EXPECT_EQ(with.pool.get_pool_size(), 1024 * MiB);
    EXPECT_EQ(with.pool.statistics().device_waits, 0u);
    EXPECT_EQ(with.backend.idle_waits, idle_waits);
    EXPECT_EQ(with.pool.allocate(512 * MiB, with.lone), block) << "it is the stream's own still";
    with.pool.deallocate(other, with.handle(2));
    with.pool.deallocate(block, with.lone);
    EXPECT_EQ(PoolInspector::check(with.pool), "");
}

/// Behind an open ticket of a captured stream nobody would get it, since nothing may be recorded there.
TEST(LoneStreamOfAPool, IsRecordedBeforeItIsCaptured) {
    Lone with;
    void* const block = with.free_one(512 * MiB, with.lone);
    with.lone.announce_capture();
    with.backend.begin(1);
    EXPECT_EQ(with.pool.allocate(512 * MiB, with.handle(2)), block);
    EXPECT_TRUE(with.backend.forbidden().empty());
    with.backend.end(1);
    with.lone.end_capture();
    with.pool.deallocate(block, with.handle(2));
}

TEST(LoneStreamOfAPool, LendsToDevicePoolsWhatItFreed) {
    detail::StrictBackend backend;
    detail::StreamOrder order(backend);
    PoolOptions options;
    options.max_bytes = 1024 * MiB;
    detail::ArenaPool arenas(options, order, std::make_shared<Addresses>());
    const detail::StreamRef stream{detail::ManualBackend::handle(1), 1, detail::StreamLife::registered};
    order.set_lone_stream(stream);
    detail::Taken taken = arenas.take(896 * MiB, 256, 1, detail::Effort::all);
    ASSERT_TRUE(taken);
    arenas.give(*taken.block, detail::Dependencies(order.defer(stream, 896 * MiB)));
    EXPECT_TRUE(arenas.lend(256 * MiB));
    arenas.repay(256 * MiB);
}

/// One after the other, each is alone.
TEST(LoneStreamOfAPool, GivesWayToTheNextOne) {
    Lone with;
    with.free_one(512 * MiB, with.lone);
    { const RegisteredStream again(with.pool, with.handle(1)); }
    with.recorded = 0;
    with.free_one(512 * MiB, with.lone);
    EXPECT_EQ(with.recorded, 0u) << "a second registration of one stream came and went";
    MemoryPoolManager& pool = with.pool;
    with.end();
    EXPECT_EQ(with.recorded, 1u);
    const RegisteredStream next(pool, with.handle(2));
    with.free_one(512 * MiB, next);
    with.recorded = 0;
    for (unsigned i = 0; i < 16; ++i)
        with.free_one(512 * MiB, next);
    EXPECT_EQ(with.recorded, 1u);
}

TEST(LoneStreamOfAPool, NothingIsRecordedOnItWhenItHasEnded) {
    Lone with;
    // A small block that was at hand: what the stream did to it before is named by no ticket, but by one that is left
    // open.
    with.free_one(4096, with.lone);
    void* const block = with.pool.allocate(4096, with.lone);
    with.end();
    with.backend.before_record = [](std::uint64_t stream) { EXPECT_EQ(stream, 2u); };
    with.pool.deallocate(block, with.handle(2));
    void* const other = with.pool.allocate(64 * MiB, with.handle(2));
    with.pool.deallocate(other, with.handle(2));
    EXPECT_EQ(PoolInspector::check(with.pool), "");
}

TEST(LoneStreamOfAPool, ItsGraphsGetWhatItFreed) {
    Lone with(Growth::fixed_step, 1024 * MiB);
    with.free_one(896 * MiB, with.lone);
    with.lone.announce_capture();
    with.backend.begin(1);
    EXPECT_NE(with.pool.allocate(256 * MiB, with.lone), nullptr);
    EXPECT_TRUE(with.backend.forbidden().empty());
    with.backend.end(1);
    with.lone.end_capture();
    with.backend.drop_graphs();
}

} // namespace
} // namespace cuda_zstd
