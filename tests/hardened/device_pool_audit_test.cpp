// SPDX-License-Identifier: MIT
// DevicePool::audit on either backend: a heap that is right, and metadata overwritten from outside.
#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"

#include <gtest/gtest.h>

#include <memory>

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
TEST(AuditOnCuda, FindsWhatWasOverwritten) {
    if (!Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
    audit_finds_what_was_overwritten(BackendKind::cuda);
}

} // namespace
