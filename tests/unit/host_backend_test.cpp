// SPDX-License-Identifier: MIT
// Streams, events and kernels of the host backend.
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/error.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

Backend& host() { return Backend::get(BackendKind::host); }

TEST(HostBackend, AStreamRunsItsTasksInOrder) {
    const cudaStream_t stream = host().create_stream();
    std::vector<int> seen;
    for (int i = 0; i < 200; ++i)
        host().host_task(stream, [&seen, i] { seen.push_back(i); });
    host().synchronize(stream);
    ASSERT_EQ(seen.size(), 200u);
    for (int i = 0; i < 200; ++i)
        EXPECT_EQ(seen[static_cast<std::size_t>(i)], i);
    host().destroy_stream(stream);
}

TEST(HostBackend, AKernelRunsEachBlockOnceOnADistinctProcessor) {
    const unsigned blocks = 10000;
    std::vector<std::atomic<unsigned>> runs(blocks);
    std::vector<std::atomic<unsigned>> inside(host().processors());
    std::atomic<bool> shared{false};
    host().run_blocks(nullptr, blocks, [&](unsigned block, unsigned processor) {
        if (inside.at(processor).fetch_add(1) != 0) shared = true;
        runs.at(block).fetch_add(1);
        inside.at(processor).fetch_sub(1);
    });
    host().synchronize(nullptr);
    for (const auto& count : runs)
        ASSERT_EQ(count.load(), 1u);
    EXPECT_FALSE(shared) << "two blocks ran on one processor at once";
}

TEST(HostBackend, KernelsOfManyStreamsFinish) {
    std::vector<cudaStream_t> streams;
    std::atomic<unsigned> done{0};
    for (unsigned i = 0; i < 20; ++i) {
        streams.push_back(host().create_stream());
        for (unsigned k = 0; k < 5; ++k)
            host().run_blocks(streams.back(), 50, [&](unsigned, unsigned) { done.fetch_add(1); });
    }
    host().synchronize();
    EXPECT_EQ(done.load(), 20u * 5 * 50);
    for (const cudaStream_t stream : streams)
        host().destroy_stream(stream);
}

TEST(HostBackend, AWaitHoldsBackTheStreamAndNotTheCaller) {
    const cudaStream_t first = host().create_stream();
    const cudaStream_t second = host().create_stream();
    const BackendEvent event = host().create_untimed_event();
    EXPECT_TRUE(host().is_complete(event)) << "never recorded";
    std::atomic<bool> open{false};
    std::atomic<int> order{0};
    int first_at = 0;
    int second_at = 0;
    host().host_task(first, [&] {
        while (!open.load())
            std::this_thread::yield();
        first_at = ++order;
    });
    host().record(event, first);
    EXPECT_FALSE(host().is_complete(event));
    host().wait(second, event);
    host().host_task(second, [&] { second_at = ++order; });
    open = true;
    host().synchronize(second);
    EXPECT_TRUE(host().is_complete(event));
    EXPECT_EQ(first_at, 1);
    EXPECT_EQ(second_at, 2);
    host().destroy_event(event);
    host().destroy_stream(first);
    host().destroy_stream(second);
}

/// More waiting streams than threads: waits are kept in the queues, so the work that they wait for still finds one.
TEST(HostBackend, ManyWaitingStreamsDoNotExhaustTheThreads) {
    std::vector<cudaStream_t> streams;
    std::vector<BackendEvent> events;
    const unsigned count = 4 * host().processors() + 4;
    std::atomic<unsigned> ran{0};
    std::atomic<bool> open{false};
    for (unsigned i = 0; i < count; ++i) {
        streams.push_back(host().create_stream());
        events.push_back(host().create_untimed_event());
        if (i != 0) host().wait(streams[i], events[i - 1]);
        host().host_task(streams[i], [&, i] {
            while (i == 0 && !open.load())
                std::this_thread::yield();
            EXPECT_EQ(ran.fetch_add(1), i);
        });
        host().record(events[i], streams[i]);
    }
    open = true;
    host().synchronize(streams.back());
    EXPECT_EQ(ran.load(), count);
    for (unsigned i = 0; i < count; ++i) {
        host().destroy_stream(streams[i]);
        host().destroy_event(events[i]);
    }
}

TEST(HostBackend, AnExceptionSurfacesAtSynchronizeOnce) {
    const cudaStream_t stream = host().create_stream();
    bool later = false;
    host().host_task(stream, [] { throw std::runtime_error("planted"); });
    host().host_task(stream, [&] { later = true; });
    try {
        host().synchronize(stream);
        ADD_FAILURE() << "the exception was lost";
    } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "planted");
    }
    EXPECT_TRUE(later) << "what follows still runs";
    EXPECT_NO_THROW(host().synchronize(stream));
    host().run_blocks(stream, 100, [](unsigned block, unsigned) {
        if (block == 57) throw std::out_of_range("block 57");
    });
    EXPECT_THROW(host().synchronize(), std::out_of_range);
    host().destroy_stream(stream);
}

TEST(HostBackend, IdsAreNeverUsedAgain) {
    std::set<std::uint64_t> ids{host().stream_id(nullptr)};
    for (int i = 0; i < 50; ++i) {
        const cudaStream_t stream = host().create_stream();
        EXPECT_TRUE(ids.insert(host().stream_id(stream)).second);
        EXPECT_EQ(host().stream_id(stream), host().stream_id(stream));
        host().destroy_stream(stream);
    }
}

TEST(HostBackend, ADestroyedStreamIsRefused) {
    const cudaStream_t stream = host().create_stream();
    host().destroy_stream(stream);
    EXPECT_THROW(host().synchronize(stream), usage_error);
    EXPECT_THROW(host().destroy_stream(nullptr), usage_error);
}

TEST(HostBackend, EventsMeasureTime) {
    const BackendEvent begin = host().create_event();
    const BackendEvent end = host().create_event();
    EXPECT_THROW(host().elapsed_ms(begin, end), usage_error) << "not recorded";
    using Clock = std::chrono::steady_clock;
    const auto span_ms = [](Clock::time_point from, Clock::time_point to) {
        return std::chrono::duration<float, std::milli>(to - from).count();
    };
    Clock::time_point task_begins;
    Clock::time_point task_ends;
    const auto before = Clock::now();
    host().record(begin, nullptr);
    host().host_task(nullptr, [&] {
        task_begins = Clock::now();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        task_ends = Clock::now();
    });
    host().record(end, nullptr);
    host().synchronize(end);
    const auto after = Clock::now();
    const float ms = host().elapsed_ms(begin, end);
    EXPECT_GE(ms, span_ms(task_begins, task_ends)) << "the task lies between the events";
    EXPECT_LE(ms, span_ms(before, after)) << "and the events between the calls";
    host().destroy_event(begin);
    host().destroy_event(end);
}

TEST(HostBackend, CopiesAndFillsKeepTheOrder) {
    const cudaStream_t stream = host().create_stream();
    auto* memory = static_cast<unsigned char*>(host().allocate_pinned(8192));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 4096, 0u);
    host().fill_async(memory, 1, 4096, stream);
    host().copy_async(memory + 4096, memory, 4096, stream);
    host().fill_async(memory, 2, 4096, stream);
    host().synchronize(stream);
    EXPECT_EQ(memory[0], 2);
    EXPECT_EQ(memory[4095], 2);
    EXPECT_EQ(memory[4096], 1);
    EXPECT_EQ(memory[8191], 1);
    host().free_pinned(memory);
    host().destroy_stream(stream);
    EXPECT_THROW(host().allocate_pinned(SIZE_MAX), out_of_memory);
}

} // namespace
} // namespace cuda_zstd
