// SPDX-License-Identifier: MIT
// The warp's version of the compressor, in the simulator: what a GPU runs, with lanes in any order.
#include "codec.hpp"

#include "cuda_zstd/env/sim_env.hpp"

namespace {

using namespace compress_test;

template <unsigned Lanes>
class WarpCodec {
public:
    using Env = cuda_zstd::sim_env<Lanes>;

    WarpCodec() : workspace_(std::make_unique<cuda_zstd::detail::ChunkWorkspace<Env>>()) {
        workspace_->fse = fse_tables;
    }

    Bytes frames(const Bytes& input, std::uint32_t chunk_bytes, std::uint64_t seed, TestPool& pool) {
        Job job(input, chunk_bytes, ContentChecksum::present);
        run(seed, [&](Env& env) {
            for (std::uint32_t i = 0; i < job.args().chunk_count; ++i)
                cuda_zstd::detail::compress_chunk(env, pool, *workspace_, job.args(), i);
        });
        job.scan();
        run(seed + 1, [&](Env& env) {
            for (std::uint32_t i = 0; i < job.args().chunk_count; ++i)
                cuda_zstd::detail::gather_chunk(env, pool, job.args(), job.packed().data(), i);
        });
        return job.packed();
    }

private:
    template <class Body>
    void run(std::uint64_t seed, Body&& body) {
        cuda_zstd::sim::ScheduleSpec schedule;
        schedule.seed = cuda_zstd::test_seed(seed);
        const auto outcome = simulation_.run(schedule, [&](unsigned thread) {
            Env env(simulation_, thread);
            body(env);
        });
        ASSERT_TRUE(outcome) << outcome.message;
    }

    cuda_zstd::sim::Simulation simulation_{
        cuda_zstd::sim::Shape{.warp_count = 1, .warp_lanes = Lanes, .step_limit = std::uint64_t{1} << 40}};
    std::unique_ptr<cuda_zstd::detail::ChunkWorkspace<Env>> workspace_;
};

template <unsigned Lanes>
void round_trips(std::size_t most_bytes, std::uint64_t seeds) {
    WarpCodec<Lanes> codec;
    for (const Kind kind : all_kinds) {
        for (std::uint64_t seed = 0; seed < seeds; ++seed) {
            std::mt19937_64 random(seed);
            const Bytes data = make_data(kind, seed < 70 ? seed : random() % most_bytes, seed);
            SCOPED_TRACE(name_of(kind) + ", seed " + std::to_string(seed));
            TestPool pool;
            const Bytes frames = codec.frames(data, static_cast<std::uint32_t>(1024 + random() % 20000), seed, pool);
            ASSERT_TRUE(decodes_to(frames, data));
            ASSERT_EQ(pool.live_blocks(), 0u);
        }
    }
}

TEST(Warp, RoundTripsOf32Lanes) { round_trips<32>(20000, 110); }
TEST(Warp, RoundTripsOf4Lanes) { round_trips<4>(20000, 110); }

TEST(Warp, WholeChunks) {
    WarpCodec<32> codec;
    for (const Kind kind : all_kinds) {
        TestPool pool;
        const Bytes data = make_data(kind, 200000, 21);
        EXPECT_TRUE(decodes_to(codec.frames(data, 131072, 21, pool), data)) << name_of(kind);
        EXPECT_EQ(pool.live_blocks(), 0u);
    }
}

TEST(Warp, AllocationFailsAtEveryRequest) {
    WarpCodec<32> codec;
    const Bytes data = make_data(Kind::text, 30000, 22);
    TestPool whole_pool;
    codec.frames(data, 131072, 22, whole_pool);
    ASSERT_GT(whole_pool.calls(), 2u);
    for (std::uint64_t n = 0; n < whole_pool.calls(); ++n) {
        TestPool pool(n);
        ASSERT_TRUE(decodes_to(codec.frames(data, 131072, 22 + n, pool), data)) << "request " << n;
        ASSERT_EQ(pool.live_blocks(), 0u);
    }
}

} // namespace
