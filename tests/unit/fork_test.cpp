// SPDX-License-Identifier: MIT
// A child of fork() is told that the pool is its parent's, and the parent does not notice.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "manual_backend.hpp"
#include "pool_registry.hpp"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
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

/// Another thread asks the pools, and so has the registry's lock, just when this one forks: the child can make pools of
/// its own, end them, and run out of memory, and asks none of the parent's.
TEST(Fork, TheChildsPoolsAreAloneWhateverTheRegistryDoes) {
    detail::ManualBackend backend(2);
    std::atomic<bool> is_asked{false};
    std::atomic<bool> may_answer{false};
    std::atomic<int> asked_in_child{0};
    const pid_t parent = getpid();
    const auto note = [&] {
        if (getpid() != parent) asked_in_child.fetch_add(1);
        is_asked.store(true);
        while (getpid() == parent && !may_answer.load())
            std::this_thread::yield();
    };
    detail::PoolRegistry::get().enter({&backend, &backend,
                                       [&] {
                                           note();
                                           return std::size_t{0};
                                       },
                                       [&](const void*) {
                                           note();
                                           return std::string();
                                       }});
    std::thread asking(
        [&] { detail::PoolRegistry::get().relieve(nullptr, backend, detail::PoolRegistry::Of::same_device); });
    while (!is_asked.load())
        std::this_thread::yield();

    const pid_t child = fork();
    if (child == 0) {
        alarm(20); // ends a child that hangs
        PoolOptions options;
        options.custom_backend = &backend;
        options.max_bytes = std::size_t{8} << 20;
        options.diagnostics = nullptr;
        {
            MemoryPoolManager pool(options);
            const cudaStream_t stream = detail::ManualBackend::handle(1);
            pool.deallocate(pool.allocate(1000, stream), stream);
            int local = 0;
            try {
                pool.deallocate(&local, stream);
            } catch (const usage_error&) {
                // It is no pool's.
            }
            (void)detail::PoolRegistry::get().relieve(&pool, backend, detail::PoolRegistry::Of::same_device);
        }
        _exit(asked_in_child.load());
    }
    may_answer.store(true);
    asking.join();
    detail::PoolRegistry::get().leave(&backend);
    ASSERT_NE(child, -1);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status)) << "the child hangs";
    EXPECT_EQ(WEXITSTATUS(status), 0) << "times that the child has asked its parent's pools";
}

} // namespace
} // namespace cuda_zstd
