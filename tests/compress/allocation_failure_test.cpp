// SPDX-License-Identifier: MIT
// A pool that has no memory at the n-th request, for every n: nothing is lost, nothing is wrong, all is counted.
#include "codec.hpp"

namespace {

using namespace compress_test;

std::uint64_t requests_of(SoloCodec& codec, const Bytes& data, std::uint32_t chunk_bytes) {
    TestPool pool;
    codec.frames(data, chunk_bytes, ContentChecksum::present, pool);
    return pool.calls();
}

TEST(AllocationFailure, AtEveryRequestTheChunkIsStored) {
    SoloCodec codec;
    for (const Kind kind : {Kind::text, Kind::records, Kind::runs, Kind::random_with_copies}) {
        const Bytes data = make_data(kind, 120000, 11);
        const std::uint64_t requests = requests_of(codec, data, 131072);
        ASSERT_GT(requests, 2u) << name_of(kind);
        for (std::uint64_t n = 0; n < requests; ++n) {
            SCOPED_TRACE(name_of(kind) + ", request " + std::to_string(n));
            TestPool pool(n);
            Job job(data, 131072, ContentChecksum::present);
            codec.compress(job, pool);
            EXPECT_EQ(job.results()[0].state, ChunkState::no_memory);
            EXPECT_EQ(job.results()[0].failed_attempts, 1u);
            EXPECT_EQ(pool.live_blocks(), 0u);
            codec.gather(job, pool);
            EXPECT_TRUE(decodes_to(job.packed(), data));
        }
    }
}

TEST(AllocationFailure, ASecondAttemptCompresses) {
    SoloCodec codec;
    const Bytes data = make_data(Kind::text, 120000, 12);
    TestPool whole_pool;
    const Bytes expected = codec.frames(data, 131072, ContentChecksum::present, whole_pool);
    for (std::uint64_t n = 0; n < whole_pool.calls(); ++n) {
        SCOPED_TRACE("request " + std::to_string(n));
        TestPool pool(n, 1);
        Job job(data, 131072, ContentChecksum::present);
        codec.compress(job, pool);
        ASSERT_EQ(job.results()[0].state, ChunkState::no_memory);
        codec.compress(job, pool);
        EXPECT_EQ(job.results()[0].state, ChunkState::compressed);
        EXPECT_EQ(job.results()[0].failed_attempts, 1u);
        codec.gather(job, pool);
        EXPECT_EQ(job.packed(), expected);
        EXPECT_EQ(pool.live_blocks(), 0u);
    }
}

TEST(AllocationFailure, OtherChunksAreNotTouched) {
    SoloCodec codec;
    const Bytes data = make_data(Kind::text, 100000, 13);
    const std::uint64_t requests = requests_of(codec, data, 8192);
    for (std::uint64_t n = 0; n < requests; ++n) {
        SCOPED_TRACE("request " + std::to_string(n));
        TestPool pool(n, 1);
        Job job(data, 8192, ContentChecksum::absent);
        codec.compress(job, pool);
        std::size_t failed = 0;
        for (const ChunkResult& result : job.results())
            failed += result.state == ChunkState::no_memory ? 1 : 0;
        EXPECT_EQ(failed, 1u);
        codec.gather(job, pool);
        EXPECT_TRUE(decodes_to(job.packed(), data));
        EXPECT_EQ(pool.live_blocks(), 0u);
    }
}

TEST(AllocationFailure, APoolThatIsAlwaysFull) {
    SoloCodec codec;
    for (const Kind kind : all_kinds) {
        TestPool pool(0);
        const Bytes data = make_data(kind, 300000, 14);
        EXPECT_TRUE(decodes_to(codec.frames(data, 131072, ContentChecksum::present, pool), data)) << name_of(kind);
    }
}

} // namespace
