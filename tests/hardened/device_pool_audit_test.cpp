// SPDX-License-Identifier: MIT
// DevicePool::audit on either backend: a heap that is right, and metadata overwritten from outside.
#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace {

using namespace cuda_zstd;

void audit_finds_what_was_overwritten(BackendKind kind) {
    Backend& backend = Backend::get(kind);
    PoolOptions options;
    options.backend = kind;
    MemoryPoolManager manager(options);
    const cudaStream_t stream = backend.create_stream();
    {
        DevicePool pool(manager, std::size_t{8} << 20, stream);
        const AuditReport right = pool.audit(stream);
        EXPECT_TRUE(static_cast<bool>(right)) << name_of(right.finding.broken) << ": " << right.finding.where;
        const std::uint32_t page = 5;
        char* const bits = static_cast<char*>(pool.arena()) + pool.layout().slot_bits_offset +
                           page * std::size_t{slot_words_per_page} * sizeof(std::uint32_t);
        backend.fill_async(bits, 1, 4, stream);
        const AuditReport wrong = pool.audit(stream);
        EXPECT_FALSE(static_cast<bool>(wrong));
        EXPECT_EQ(wrong.finding.broken, Invariant::slots_belong_to_slabs) << name_of(wrong.finding.broken);
        EXPECT_EQ(wrong.finding.where, page);
        backend.fill_async(bits, 0, 4, stream);
        EXPECT_TRUE(static_cast<bool>(pool.audit(stream)));
    }
    backend.synchronize(stream);
    backend.destroy_stream(stream);
}

TEST(AuditOnHost, FindsWhatWasOverwritten) { audit_finds_what_was_overwritten(BackendKind::host); }
/// The host backend's kernels are threads of this program, so a test can be one.
TEST(AuditOnHost, ListsLiveBlocksBySizeClass) {
    Backend& backend = Backend::get(BackendKind::host);
    PoolOptions options;
    options.backend = BackendKind::host;
    MemoryPoolManager manager(options);
    const cudaStream_t stream = backend.create_stream();
    {
        DevicePool pool(manager, std::size_t{8} << 20, stream);
        EXPECT_EQ(to_text(pool.audit(stream)), "");
        solo_env env(0);
        const auto ref = pool.ref<solo_env>();
        std::vector<void*> blocks;
        for (const std::size_t bytes : {60u, 64u, 1000u, 64u, 200000u, 1000u}) {
            blocks.push_back(ref.allocate(env, bytes));
            ASSERT_NE(blocks.back(), nullptr);
        }
        const AuditReport report = pool.audit(stream);
        EXPECT_EQ(report.census.blocks[size_class_of(64)], 3u);
        EXPECT_EQ(report.census.blocks[size_class_of(1000)], 2u);
        EXPECT_EQ(report.census.runs, 1u);
        EXPECT_EQ(report.census.all_blocks(), blocks.size());
        EXPECT_EQ(to_text(report), "live blocks: 3 of 64 B, 2 of " +
                                       std::to_string(slot_bytes_of(size_class_of(1000))) + " B, 1 of whole pages, " +
                                       std::to_string(report.census.run_bytes) + " B in all\n");
        EXPECT_GE(report.census.run_bytes, 200000u);
        EXPECT_EQ(pool.statistics(stream).live_blocks, blocks.size());
        for (void* block : blocks)
            ref.deallocate(env, block);
        EXPECT_EQ(pool.audit(stream).census.all_blocks(), 0u);
    }
    backend.synchronize(stream);
    backend.destroy_stream(stream);
}
TEST(AuditOnCuda, FindsWhatWasOverwritten) {
    if (!Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
    audit_finds_what_was_overwritten(BackendKind::cuda);
}

} // namespace
