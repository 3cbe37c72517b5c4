// SPDX-License-Identifier: MIT
// A child of fork() is told that the pool is its parent's, and the parent does not notice.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cuda_zstd {
namespace {

bool is_refused(const std::function<void()>& call) {
    try {
        call();
    } catch (const usage_error& error) {
        return std::string(error.what()).find("before fork()") != std::string::npos;
    }
    return false;
}

TEST(Fork, TheChildIsRefusedAndTheParentUnharmed) {
    Backend& backend = Backend::get(BackendKind::host);
    PoolOptions options;
    options.backend = BackendKind::host;
    options.max_bytes = std::size_t{64} << 20;
    auto pool = std::make_unique<MemoryPoolManager>(options);
    const cudaStream_t handle = backend.create_stream();
    auto stream = std::make_unique<RegisteredStream>(*pool, handle);
    // At hand, so that without care the child would be served.
    for (int i = 0; i < 3; ++i)
        pool->deallocate(pool->allocate(5000, *stream), *stream);
    void* block = pool->allocate(5000, *stream);
    pool->deallocate(pool->allocate(5000, *stream), *stream);

    const pid_t child = fork();
    ASSERT_NE(child, -1);
    if (child == 0) {
        const std::vector<std::function<void()>> calls{
            [&] { (void)pool->allocate(5000, *stream); },
            [&] { (void)pool->allocate(5000, handle); },
            [&] { (void)pool->try_allocate(std::size_t{3} << 20, *stream); },
            [&] { pool->deallocate(block, *stream); },
            [&] { pool->deallocate(block, handle); },
            [&] { pool->reset(); },
            [&] { pool->trim(); },
            [&] { pool->reserve(1); },
            [&] { (void)pool->statistics(); },
            [&] { (void)pool->snapshot(); },
            [&] { (void)pool->usable_size(block); },
            [&] { (void)pool->get_allocated_size(); },
            [&] { (void)pool->get_pool_size(); },
            [&] { (void)pool->allocate_device_arena(1, handle); },
            [&] { (void)Backend::get(BackendKind::host); },
            [&] { MemoryPoolManager another(options); },
        };
        int not_refused = 0;
        for (const auto& call : calls)
            not_refused += !is_refused(call);
        stream.reset();
        pool.reset();
        _exit(not_refused);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0) << "calls that the child was not refused";
    pool->deallocate(block, *stream);
    EXPECT_EQ(pool->statistics().live_blocks, 0u);
    EXPECT_EQ(PoolInspector::check(*pool), "");
    stream.reset();
    backend.destroy_stream(handle);
}

} // namespace
} // namespace cuda_zstd
