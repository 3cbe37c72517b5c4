// SPDX-License-Identifier: MIT
// Round trips of the scalar compressor through libzstd's decoder.
#include "codec.hpp"

namespace {

using namespace compress_test;

constexpr std::uint32_t chunk_sizes[] = {1024, 1025, 4096, 10000, 65536, 65791, 65792, 100001, 131071, 131072};

void expect_round_trip(SoloCodec& codec, const Bytes& data, std::uint32_t chunk_bytes, ContentChecksum checksum) {
    TestPool pool;
    const Bytes frames = codec.frames(data, chunk_bytes, checksum, pool);
    EXPECT_TRUE(decodes_to(frames, data));
    EXPECT_EQ(pool.live_blocks(), 0u);
    EXPECT_LE(frames.size(), cuda_zstd::compression::packed_bound(data.size(), data.size() / chunk_bytes + 1));
}

TEST(Chunk, EverySizeTo3000OfEveryKind) {
    SoloCodec codec;
    for (const Kind kind : all_kinds) {
        for (std::size_t bytes = 0; bytes <= 3000; ++bytes) {
            SCOPED_TRACE(name_of(kind) + " of " + std::to_string(bytes));
            expect_round_trip(codec, make_data(kind, bytes, bytes), 131072,
                              bytes % 2 == 0 ? ContentChecksum::absent : ContentChecksum::present);
            if (HasFailure()) return;
        }
    }
}

TEST(Chunk, SizesAroundPowersOfTwo) {
    SoloCodec codec;
    for (const Kind kind : all_kinds) {
        for (std::size_t power = 4096; power <= 131072; power *= 2) {
            for (std::size_t bytes = power - 2; bytes <= power + 2; ++bytes) {
                SCOPED_TRACE(name_of(kind) + " of " + std::to_string(bytes));
                expect_round_trip(codec, make_data(kind, bytes, bytes), 131072, ContentChecksum::present);
                if (HasFailure()) return;
            }
        }
    }
}

TEST(Chunk, EveryChunkSize) {
    SoloCodec codec;
    for (const Kind kind : all_kinds) {
        const Bytes data = make_data(kind, 400000, 7);
        for (const std::uint32_t chunk_bytes : chunk_sizes) {
            SCOPED_TRACE(name_of(kind) + " in chunks of " + std::to_string(chunk_bytes));
            expect_round_trip(codec, data, chunk_bytes, ContentChecksum::present);
            expect_round_trip(codec, data, chunk_bytes, ContentChecksum::absent);
        }
    }
}

TEST(Chunk, RandomPrograms) {
    SoloCodec codec;
    for (std::uint64_t seed = 0; seed < 1500; ++seed) {
        std::mt19937_64 random(cuda_zstd::test_seed(seed));
        Bytes data;
        for (std::size_t pieces = 1 + random() % 6; pieces != 0; --pieces) {
            const Bytes piece = make_data(all_kinds[random() % std::size(all_kinds)], random() % 30000, random());
            data.insert(data.end(), piece.begin(), piece.end());
        }
        SCOPED_TRACE("seed " + std::to_string(seed));
        expect_round_trip(codec, data, chunk_sizes[random() % std::size(chunk_sizes)],
                          random() % 2 == 0 ? ContentChecksum::absent : ContentChecksum::present);
        if (HasFailure()) return;
    }
}

TEST(Chunk, DataThatDoesNotCompressIsStoredAndTakesNoOutput) {
    SoloCodec codec;
    TestPool pool;
    const Bytes data = make_data(Kind::random, 131072, 1);
    Job job(data, 131072, ContentChecksum::absent);
    codec.compress(job, pool);
    EXPECT_EQ(job.results()[0].state, ChunkState::stored);
    EXPECT_EQ(job.results()[0].frame_bytes, data.size() + 12);
    EXPECT_EQ(pool.live_blocks(), 0u);
}

TEST(Chunk, OneRepeatedByteTakesNothingOfThePool) {
    SoloCodec codec;
    TestPool pool;
    const Bytes data(131072, 'x');
    Job job(data, 131072, ContentChecksum::absent);
    codec.compress(job, pool);
    codec.gather(job, pool);
    EXPECT_EQ(job.results()[0].state, ChunkState::repeated);
    EXPECT_EQ(job.packed().size(), 13u);
    EXPECT_EQ(pool.calls(), 0u);
    EXPECT_TRUE(decodes_to(job.packed(), data));
}

TEST(Chunk, ARunThatEndsIsCompressed) {
    SoloCodec codec;
    TestPool pool;
    Bytes data(5000, 'a');
    data.back() = 'b';
    Job job(data, 131072, ContentChecksum::absent);
    codec.compress(job, pool);
    codec.gather(job, pool);
    EXPECT_EQ(job.results()[0].state, ChunkState::compressed);
    EXPECT_LT(job.packed().size(), 40u);
    EXPECT_TRUE(decodes_to(job.packed(), data));
}

TEST(Chunk, SameInputSameOutput) {
    SoloCodec codec;
    const Bytes data = make_data(Kind::text, 300000, 3);
    TestPool first_pool;
    TestPool second_pool;
    EXPECT_EQ(codec.frames(data, 131072, ContentChecksum::present, first_pool),
              codec.frames(data, 131072, ContentChecksum::present, second_pool));
}

TEST(Chunk, ADamagedByteIsNoticedThroughTheChecksum) {
    SoloCodec codec;
    TestPool pool;
    const Bytes data = make_data(Kind::random, 5000, 3);
    Bytes frames = codec.frames(data, 131072, ContentChecksum::present, pool);
    ASSERT_TRUE(decodes_to(frames, data));
    frames[100] ^= 1; // a literal of a stored block: only the checksum can tell
    EXPECT_FALSE(decodes_to(frames, data));
}

TEST(Chunk, ScratchIsWhatThePoolGave) {
    SoloCodec codec;
    for (const Kind kind : all_kinds) {
        TestPool pool;
        const Bytes data = make_data(kind, 131072, 5);
        Job job(data, 131072, ContentChecksum::absent);
        codec.compress(job, pool);
        EXPECT_EQ(job.results()[0].scratch_bytes, pool.peak_bytes()) << name_of(kind);
        codec.gather(job, pool);
        EXPECT_EQ(pool.live_blocks(), 0u);
    }
}

} // namespace
