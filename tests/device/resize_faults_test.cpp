// SPDX-License-Identifier: MIT
// Every call of the backend and of the arena source fails once, at every position of a program that makes, grows,
// trims and destroys a device pool: what throws has left the pool usable and as large as it was, and in the end nothing
// is lost.
#include "cuda_zstd/device/device_pool.hpp"
#include "cuda_zstd/host/arena_source.hpp"
#include "cuda_zstd_memory_pool.h"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "kernels/launch_fault.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace {

using namespace cuda_zstd;

constexpr std::size_t MiB = std::size_t{1} << 20;

/// A backend, one of whose calls fails.
class FaultyBackend final : public Backend {
public:
    explicit FaultyBackend(BackendKind kind) : real_(Backend::get(kind)) {}
    /// The `at`-th call from now on throws; 0: none does.
    void fail_at(unsigned at) { left_.store(at); }
    unsigned calls() const { return calls_.load(); }
    int events() const { return events_.load(); }
    int pinned() const { return pinned_.load(); }

    BackendKind kind() const noexcept override { return real_.kind(); }
    std::string description() const override { return "faulty " + real_.description(); }
    unsigned processors() const noexcept override { return real_.processors(); }
    std::size_t free_memory_bytes() const override { return real_.free_memory_bytes(); }
    cudaStream_t create_stream() override { return real_.create_stream(); }
    void destroy_stream(cudaStream_t stream) override { real_.destroy_stream(stream); }
    void synchronize(cudaStream_t stream) override { call().synchronize(stream); }
    void synchronize() override { call().synchronize(); }
    void wait_idle() override { call().wait_idle(); }
    std::uint64_t stream_id(cudaStream_t stream) override { return call().stream_id(stream); }
    bool is_capturing(cudaStream_t stream) override { return call().is_capturing(stream); }
    BackendEvent create_event() override { return counted(call().create_event()); }
    BackendEvent create_untimed_event() override { return counted(call().create_untimed_event()); }
    void destroy_event(BackendEvent event) noexcept override {
        if (event.handle != nullptr) events_.fetch_sub(1);
        real_.destroy_event(event);
    }
    void record(BackendEvent event, cudaStream_t stream) override { call().record(event, stream); }
    bool is_complete(BackendEvent event) override { return call().is_complete(event); }
    void wait(cudaStream_t stream, BackendEvent event) override { call().wait(stream, event); }
    void synchronize(BackendEvent event) override { call().synchronize(event); }
    float elapsed_ms(BackendEvent begin, BackendEvent end) override { return real_.elapsed_ms(begin, end); }
    void copy_async(void* to, const void* from, std::size_t bytes, cudaStream_t stream) override {
        call().copy_async(to, from, bytes, stream);
    }
    void fill_async(void* to, unsigned char value, std::size_t bytes, cudaStream_t stream) override {
        call().fill_async(to, value, bytes, stream);
    }
    void host_task(cudaStream_t stream, std::function<void()> task) override {
        call().host_task(stream, std::move(task));
    }
    void run_blocks(cudaStream_t stream, unsigned blocks, std::function<void(unsigned, unsigned)> block) override {
        call().run_blocks(stream, blocks, std::move(block));
    }
    void* allocate_pinned(std::size_t bytes) override {
        void* const memory = call().allocate_pinned(bytes);
        pinned_.fetch_add(1);
        return memory;
    }
    void free_pinned(void* memory) noexcept override {
        pinned_.fetch_sub(1);
        real_.free_pinned(memory);
    }

private:
    Backend& call() {
        calls_.fetch_add(1);
        unsigned left = left_.load();
        while (left != 0 && !left_.compare_exchange_weak(left, left - 1)) {
        }
        if (left == 1) throw cuda_error("a call of the driver failed, as the test wants");
        return real_;
    }
    BackendEvent counted(BackendEvent event) {
        events_.fetch_add(1);
        return event;
    }

    Backend& real_;
    std::atomic<unsigned> left_{0};
    std::atomic<unsigned> calls_{0};
    std::atomic<int> events_{0};
    std::atomic<int> pinned_{0};
};

struct Counts {
    unsigned backend_calls = 0;
    std::uint64_t source_calls = 0;
    unsigned faults = 0;
    bool is_fault_left = false; ///< that many launches there were not
};

/// One run of the program, in which the `backend_at`-th call of the backend and the `source_at`-th of the source fail
/// (0: none).
Counts run_program(BackendKind kind, unsigned backend_at, std::uint64_t source_at) {
    FaultyBackend backend(kind);
    std::uint64_t failing = source_at;
    const auto source = std::make_shared<FaultySource>(std::shared_ptr<ArenaSource>(make_default_source(kind)),
                                                       [&failing](std::uint64_t call) { return call == failing; });
    Counts counts;
    {
        PoolOptions options;
        options.custom_backend = &backend;
        options.custom_source = source;
        options.growth = Growth::exact;
        options.diagnostics = nullptr;
        MemoryPoolManager manager(options);
        const cudaStream_t stream = backend.create_stream();
        const cudaStream_t other = backend.create_stream();
        std::unique_ptr<DevicePool> pool;
        const auto attempt = [&](const std::function<void()>& step) {
            const std::size_t before = pool != nullptr ? pool->mapped_bytes() : 0;
            try {
                step();
            } catch (const cuda_error&) {
                ++counts.faults;
                if (pool != nullptr) {
                    EXPECT_LE(pool->mapped_bytes(), before) << "what throws has mapped nothing";
                }
            } catch (const out_of_memory&) {
                ++counts.faults;
            }
        };
        const unsigned calls_before = backend.calls();
        const std::uint64_t source_before = source->calls();
        backend.fail_at(backend_at);
        attempt([&] {
            pool = std::make_unique<DevicePool>(manager, DevicePoolSize{16 * MiB, 1024 * MiB, 16 * MiB}, stream);
        });
        if (pool != nullptr) {
            attempt([&] { pool->grow(48 * MiB, other); });
            attempt([&] { pool->trim(stream, pool->mapped_bytes() - 32 * MiB); });
            attempt([&] { pool->grow(300 * MiB, stream); }); // metadata, too
            for (unsigned turn = 0; turn < 3; ++turn)
                attempt([&] { pool->resize_between_launches(turn == 1 ? other : stream); });
            attempt([&] { pool->trim(other); });
            attempt([&] { pool->grow(32 * MiB, stream); });
            attempt([&] { pool->flush(other); });
        }
        counts.backend_calls = backend.calls() - calls_before;
        counts.source_calls = source->calls() - source_before;
        backend.fail_at(0);
        failing = 0;
        if (pool != nullptr) {
            // With no fault left it does all that it should.
            const GrowthReport grown = pool->grow(8 * MiB, stream);
            EXPECT_EQ(grown.limit, GrowthLimit::none);
            HeapReport report = pool->statistics(stream);
            EXPECT_GE(report.heap_bytes, 8 * MiB);
            EXPECT_EQ(report.free_page_bytes, report.heap_bytes);
            const AuditReport audit = pool->audit(stream);
            EXPECT_TRUE(static_cast<bool>(audit)) << name_of(audit.finding.broken);
            const TrimReport trimmed = pool->trim(stream);
            EXPECT_EQ(trimmed.refused_bytes, 0u);
            report = pool->statistics(stream);
            EXPECT_EQ(report.heap_bytes, 0u);
            EXPECT_LE(trimmed.mapped_bytes, 8 * MiB) << "only metadata are left";
            EXPECT_TRUE(static_cast<bool>(pool->audit(stream)));
        }
        pool.reset();
        manager.trim();
        EXPECT_EQ(manager.get_pool_size(), 0u);
        EXPECT_EQ(source->mapped_bytes(), 0u);
        backend.destroy_stream(other);
        backend.destroy_stream(stream);
    }
    EXPECT_EQ(source->reserved_ranges(), 0u);
    EXPECT_EQ(source->mapped_bytes(), 0u);
    EXPECT_EQ(backend.events(), 0);
    EXPECT_EQ(backend.pinned(), 0);
    return counts;
}

/// Compacts a pool in both forms, surveys it, lets its policy decide and audits it, with the
/// `backend_at`-th call of the backend and the `launch_at`-th launch failing (0: none). The pool goes on.
Counts run_compactions(BackendKind kind, unsigned backend_at, unsigned launch_at) {
    FaultyBackend backend(kind);
    Counts counts;
    {
        PoolOptions options;
        options.custom_backend = &backend;
        options.diagnostics = nullptr;
        MemoryPoolManager manager(options);
        const cudaStream_t stream = backend.create_stream();
        {
            DevicePool pool(manager, 16 * MiB, stream);
            CompactionPolicy policy;
            policy.every_calls = 2;
            pool.set_compaction_policy(policy);
            const auto attempt = [&](const std::function<void()>& step) {
                try {
                    step();
                } catch (const cuda_error&) {
                    ++counts.faults;
                }
            };
            backend.synchronize(stream);
            const unsigned before = backend.calls();
            backend.fail_at(backend_at);
            detail::launch_fault.set(launch_at);
            attempt([&] { pool.compact(stream); });
            attempt([&] { pool.compact(stream, {Compaction::Form::quiet, whole_heap}); });
            attempt([&] { pool.compact(stream, {Compaction::Form::online, 7}); });
            for (unsigned turn = 0; turn < 4; ++turn)
                attempt([&] { pool.between_launches(stream); });
            attempt([&] { pool.statistics(stream); });
            attempt([&] { pool.audit(stream); });
            counts.backend_calls = backend.calls() - before;
            counts.is_fault_left = detail::launch_fault.is_set();
            backend.fail_at(0);
            detail::launch_fault.set(0);
            // The work area is nobody's, so that the next compaction and the next survey do all that they should.
            const std::uint64_t sequence = pool.statistics(stream).sequence;
            pool.compact(stream);
            backend.synchronize(stream);
            EXPECT_EQ(pool.report().sequence, sequence + 1);
            pool.compact(stream, {Compaction::Form::quiet, whole_heap});
            const HeapReport report = pool.statistics(stream);
            EXPECT_EQ(report.free_page_bytes, report.heap_bytes);
            EXPECT_TRUE(static_cast<bool>(pool.audit(stream)));
        }
        manager.trim();
        EXPECT_EQ(manager.get_pool_size(), 0u);
        backend.destroy_stream(stream);
    }
    EXPECT_EQ(backend.events(), 0);
    EXPECT_EQ(backend.pinned(), 0);
    return counts;
}

class ResizeFaults : public testing::TestWithParam<BackendKind> {
protected:
    void SetUp() override {
        if (GetParam() == BackendKind::cuda && !Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
    }
};

TEST_P(ResizeFaults, EveryCallOfTheBackendFailsOnce) {
    const Counts all = run_program(GetParam(), 0, 0);
    EXPECT_EQ(all.faults, 0u);
    ASSERT_GT(all.backend_calls, 50u);
    unsigned faults = 0;
    for (unsigned at = 1; at <= all.backend_calls; ++at) {
        SCOPED_TRACE("call " + std::to_string(at) + " of the backend fails");
        faults += run_program(GetParam(), at, 0).faults;
        if (HasFailure()) break;
    }
    EXPECT_GT(faults, all.backend_calls / 2) << "what fails is told, as a rule";
}

TEST_P(ResizeFaults, EveryCallOfTheSourceFailsOnce) {
    const Counts all = run_program(GetParam(), 0, 0);
    ASSERT_GT(all.source_calls, 20u);
    for (std::uint64_t at = 1; at <= all.source_calls; ++at) {
        SCOPED_TRACE("call " + std::to_string(at) + " of the source fails");
        run_program(GetParam(), 0, at);
        if (HasFailure()) break;
    }
}

/// What the driver does not take back is said, stays mapped and in the heap, and is taken back later.
TEST_P(ResizeFaults, ARefusedUnmapIsSaidAndLosesNothing) {
    bool refuses = false;
    const auto source = std::make_shared<FaultySource>(std::shared_ptr<ArenaSource>(make_default_source(GetParam())),
                                                       [&refuses](std::uint64_t) { return refuses; });
    PoolOptions options;
    options.backend = GetParam();
    options.custom_source = source;
    options.diagnostics = nullptr;
    MemoryPoolManager manager(options);
    DevicePool pool(manager, DevicePoolSize{64 * MiB, 256 * MiB, 16 * MiB}, nullptr);
    const std::size_t mapped_before = source->mapped_bytes();
    refuses = true;
    const TrimReport refused = pool.trim(nullptr);
    EXPECT_EQ(refused.returned_bytes, 0u);
    EXPECT_EQ(refused.refused_bytes, 64 * MiB);
    EXPECT_EQ(source->mapped_bytes(), mapped_before);
    EXPECT_EQ(pool.statistics(nullptr).heap_bytes, 64 * MiB);
    refuses = false;
    EXPECT_EQ(pool.trim(nullptr).returned_bytes, 64 * MiB);
    EXPECT_EQ(source->mapped_bytes(), mapped_before - 64 * MiB);
    EXPECT_EQ(pool.grow(32 * MiB, nullptr).grown_bytes, 32 * MiB);
    EXPECT_TRUE(static_cast<bool>(pool.audit(nullptr)));
}

TEST_P(ResizeFaults, EveryCallInACompactionFailsOnce) {
    const Counts all = run_compactions(GetParam(), 0, 0);
    EXPECT_EQ(all.faults, 0u);
    ASSERT_GT(all.backend_calls, 20u);
    for (unsigned at = 1; at <= all.backend_calls; ++at) {
        SCOPED_TRACE("call " + std::to_string(at) + " of the backend fails");
        run_compactions(GetParam(), at, 0);
        if (HasFailure()) break;
    }
}

TEST_P(ResizeFaults, EveryLaunchOfACompactionFailsOnce) {
    unsigned at = 1;
    for (bool is_through = false; !is_through && !HasFailure(); ++at) {
        SCOPED_TRACE("launch " + std::to_string(at) + " fails");
        const Counts counts = run_compactions(GetParam(), 0, at);
        is_through = counts.is_fault_left;
        EXPECT_EQ(counts.faults, is_through ? 0u : 1u);
    }
    EXPECT_GT(at, 20u);
}

INSTANTIATE_TEST_SUITE_P(OnHost, ResizeFaults, testing::Values(BackendKind::host));
INSTANTIATE_TEST_SUITE_P(OnCuda, ResizeFaults, testing::Values(BackendKind::cuda));

} // namespace
