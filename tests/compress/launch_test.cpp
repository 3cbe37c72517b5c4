// SPDX-License-Identifier: MIT
// The launchers on each backend, with a real device pool.
#include "corpus.hpp"

#include "cuda_zstd_memory_pool_enhanced.h"
#include "kernels/compression/launch.hpp"

#include <algorithm>
#include <ostream>

namespace {

using namespace compress_test;
using namespace cuda_zstd;
using namespace cuda_zstd::compression;

} // namespace

namespace cuda_zstd {
// Found by GoogleTest, which names tests by it.
void PrintTo(BackendKind kind, std::ostream* to);
void PrintTo(BackendKind kind, std::ostream* to) { *to << (kind == BackendKind::cuda ? "cuda" : "host"); }
} // namespace cuda_zstd

namespace {

PoolOptions options_for(BackendKind kind) {
    PoolOptions options;
    options.backend = kind;
    return options;
}

class Launch : public ::testing::TestWithParam<BackendKind> {
protected:
    void SetUp() override {
        if (GetParam() == BackendKind::cuda && !Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
        backend_ = &Backend::get(GetParam());
        manager_ = std::make_unique<MemoryPoolManager>(options_for(GetParam()));
        stream_ = backend_->create_stream();
    }
    void TearDown() override {
        if (manager_ == nullptr) return;
        EXPECT_EQ(manager_->get_allocated_size(), 0u);
        backend_->destroy_stream(stream_);
    }

    template <class T>
    PooledBuffer upload(const std::vector<T>& values) {
        PooledBuffer buffer(*manager_, values.size() * sizeof(T), stream_);
        backend_->copy_async(buffer.data(), values.data(), values.size() * sizeof(T), stream_);
        backend_->synchronize(stream_);
        return buffer;
    }
    template <class T>
    std::vector<T> download(const PooledBuffer& buffer, std::size_t count) {
        std::vector<T> values(count);
        backend_->copy_async(values.data(), buffer.data(), count * sizeof(T), stream_);
        backend_->synchronize(stream_);
        return values;
    }

    struct Outcome {
        Bytes frames;
        std::vector<ChunkResult> results;
    };
    Outcome compress(const Bytes& data, std::uint32_t chunk_bytes, DevicePool& pool) {
        std::vector<ChunkSpan> spans;
        for (std::size_t at = 0; at < data.size(); at += chunk_bytes)
            spans.push_back({at, static_cast<std::uint32_t>(std::min<std::size_t>(chunk_bytes, data.size() - at)), 0});
        const auto count = static_cast<std::uint32_t>(spans.size());
        Bytes padded(data.size() + 2 * input_padding_bytes);
        std::copy(data.begin(), data.end(), padded.begin() + input_padding_bytes);
        const PooledBuffer input = upload(padded);
        const PooledBuffer chunks = upload(spans);
        const PooledBuffer results = upload(std::vector<ChunkResult>(count));
        const PooledBuffer offsets(*manager_, (count + 1) * sizeof(std::uint64_t), stream_);
        const PooledBuffer packed(*manager_, packed_bound(data.size(), count), stream_);
        const PooledBuffer scratch(*manager_, gather_scratch_bytes(*backend_, count), stream_);
        CompressArgs args;
        args.input = input.as<unsigned char>() + input_padding_bytes;
        args.chunks = chunks.as<ChunkSpan>();
        args.chunk_count = count;
        args.checksum = ContentChecksum::present;
        args.results = results.as<ChunkResult>();
        args.frame_offsets = offsets.as<std::uint64_t>();
        launch_compress(*backend_, stream_, pool, args);
        launch_gather(*backend_, stream_, pool, args,
                      {packed.as<unsigned char>(), scratch.data(), scratch.size_bytes()});
        const auto frame_offsets = download<std::uint64_t>(offsets, count + 1);
        return {download<unsigned char>(packed, frame_offsets.back()), download<ChunkResult>(results, count)};
    }

    Backend* backend_ = nullptr;
    std::unique_ptr<MemoryPoolManager> manager_;
    cudaStream_t stream_ = nullptr;
};

TEST_P(Launch, EveryKindInManyChunks) {
    DevicePool pool(*manager_, std::size_t{256} << 20, stream_);
    for (const Kind kind : all_kinds) {
        const Bytes data = make_data(kind, 9'000'001, 31);
        for (const std::uint32_t chunk_bytes : {131072u, 10000u, 1024u}) {
            SCOPED_TRACE(name_of(kind) + " in chunks of " + std::to_string(chunk_bytes));
            const Outcome outcome = compress(data, chunk_bytes, pool);
            EXPECT_TRUE(decodes_to(outcome.frames, data));
            for (const ChunkResult& result : outcome.results)
                EXPECT_NE(result.state, ChunkState::no_memory);
        }
    }
    const HeapReport report = pool.statistics(stream_);
    EXPECT_EQ(report.live_blocks, 0u);
    EXPECT_EQ(report.failed_allocations, 0u);
    EXPECT_EQ(report.invalid_frees + report.double_frees, 0u);
}

TEST_P(Launch, APoolThatIsTooSmallStoresAndCounts) {
    DevicePool pool(*manager_, std::size_t{2} << 20, stream_);
    const Bytes data = make_data(Kind::text, 40'000'000, 32);
    const Outcome outcome = compress(data, 131072, pool);
    EXPECT_TRUE(decodes_to(outcome.frames, data));
    std::size_t stored = 0;
    for (const ChunkResult& result : outcome.results)
        stored += result.state == ChunkState::no_memory ? 1 : 0;
    EXPECT_GT(stored, 0u);
    const HeapReport report = pool.statistics(stream_);
    EXPECT_EQ(report.live_blocks, 0u);
    EXPECT_GT(report.failed_allocations, 0u);
}

TEST_P(Launch, ThePoolServesAgainAfterItWasFull) {
    DevicePool pool(*manager_, std::size_t{8} << 20, stream_);
    const Bytes large = make_data(Kind::text, 40'000'000, 33);
    const Bytes small = make_data(Kind::text, 131072, 34);
    for (int round = 0; round < 3; ++round) {
        EXPECT_TRUE(decodes_to(compress(large, 131072, pool).frames, large));
        pool.compact(stream_);
        const Outcome outcome = compress(small, 131072, pool);
        EXPECT_TRUE(decodes_to(outcome.frames, small));
        EXPECT_EQ(outcome.results[0].state, ChunkState::compressed);
    }
    EXPECT_EQ(pool.statistics(stream_).live_blocks, 0u);
}

std::string backend_name(const ::testing::TestParamInfo<BackendKind>& info) {
    return info.param == BackendKind::cuda ? "on_cuda" : "on_host";
}
INSTANTIATE_TEST_SUITE_P(host, Launch, ::testing::Values(BackendKind::host), backend_name);
INSTANTIATE_TEST_SUITE_P(cuda, Launch, ::testing::Values(BackendKind::cuda), backend_name);

} // namespace
