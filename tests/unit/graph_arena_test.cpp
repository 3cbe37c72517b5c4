// SPDX-License-Identifier: MIT
// Allocation inside a stream capture, with graphs that a test makes, copies and destroys as it likes.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "manual_backend.hpp"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

/// What a graph holds is released when the last share of it is gone: the graph's own, or that of something
/// instantiated.
struct FakeGraph {
    std::vector<std::shared_ptr<void>> retained;
};

class CapturingBackend final : public detail::ManualBackend {
public:
    CapturingBackend() : ManualBackend(4) {}
    void begin(std::uint64_t stream, std::uint64_t capture, FakeGraph& graph) { captures_[stream] = {capture, &graph}; }
    void end(std::uint64_t stream) { captures_.erase(stream); }
    void fail_to_retain() { retains_ = false; }

    bool is_capturing(cudaStream_t stream) override { return captures_.count(stream_id(stream)) != 0; }
    BackendCapture capture_of(cudaStream_t stream) override {
        const auto found = captures_.find(stream_id(stream));
        return found == captures_.end() ? BackendCapture{} : found->second;
    }
    void retain_by_graph(void* graph, void (*release)(void*), void* context) override {
        if (!retains_) throw cuda_error("cudaGraphRetainUserObject failed");
        static_cast<FakeGraph*>(graph)->retained.emplace_back(context, release);
    }

private:
    std::map<std::uint64_t, BackendCapture> captures_;
    bool retains_ = true;
};

class GraphArenaTest : public testing::Test {
protected:
    static cudaStream_t stream(std::uint64_t id) { return detail::ManualBackend::handle(id); }
    static PoolOptions options(Backend& backend) {
        PoolOptions made;
        made.max_bytes = 64 * MiB;
        made.custom_backend = &backend;
        made.diagnostics = nullptr;
        return made;
    }
    template <class Call>
    static std::string refusal(const Call& call) {
        try {
            call();
        } catch (const usage_error& error) {
            return error.what();
        }
        return {};
    }
    void expect_sound() { EXPECT_EQ(PoolInspector::check(pool_), ""); }

    CapturingBackend backend_;
    MemoryPoolManager pool_{options(backend_)};
    FakeGraph graph_;
};

TEST_F(GraphArenaTest, MemoryLivesAsLongAsTheGraphAndWhatWasMadeOfIt) {
    backend_.begin(1, 7, graph_);
    std::vector<char*> blocks;
    for (const std::size_t bytes : {std::size_t{1}, 1000 * std::size_t{1000}, 3 * MiB})
        blocks.push_back(static_cast<char*>(pool_.allocate(bytes, stream(1))));
    for (char* block : blocks)
        *block = 1;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pool_.allocate(100, MiB, stream(1))) % MiB, 0u);
    backend_.end(1);
    FakeGraph instantiated = graph_;
    PoolStatistics s = pool_.statistics();
    EXPECT_EQ(s.live_graphs, 1u);
    EXPECT_GE(s.graph_bytes, 4 * MiB);
    EXPECT_EQ(s.live_blocks, 0u) << "they are the graph's";
    graph_.retained.clear();
    pool_.trim();
    EXPECT_EQ(pool_.statistics().live_graphs, 1u);
    EXPECT_GE(pool_.get_pool_size(), s.graph_bytes);
    EXPECT_NE(refusal([&] { pool_.reset(); }).find("1 graph has memory"), std::string::npos);
    expect_sound();
    instantiated.retained.clear();
    pool_.trim();
    s = pool_.statistics();
    EXPECT_EQ(s.live_graphs, 0u);
    EXPECT_EQ(s.graph_bytes, 0u);
    EXPECT_EQ(s.capacity_bytes, 0u);
    expect_sound();
}

TEST_F(GraphArenaTest, NoOtherWorkHasTheMemoryMeanwhile) {
    backend_.begin(1, 7, graph_);
    auto* of_graph = static_cast<char*>(pool_.allocate(5 * MiB, stream(1)));
    backend_.end(1);
    for (unsigned i = 0; i < 100; ++i) {
        auto* block = static_cast<char*>(pool_.allocate(3 * MiB, stream(2)));
        EXPECT_TRUE(block + 3 * MiB <= of_graph || block >= of_graph + 5 * MiB);
        pool_.deallocate(block, stream(2));
    }
}

TEST_F(GraphArenaTest, WhatPendingWorkUsesIsNotForAGraph) {
    auto* pending = static_cast<char*>(pool_.allocate(4 * MiB, stream(2)));
    backend_.submit(2);
    pool_.deallocate(pending, stream(2));
    backend_.begin(1, 7, graph_);
    auto* of_graph = static_cast<char*>(pool_.allocate(4 * MiB, stream(1)));
    EXPECT_TRUE(of_graph + 4 * MiB <= pending || of_graph >= pending + 4 * MiB)
        << "the graph may run on a stream that waits for nothing";
    backend_.end(1);
}

TEST_F(GraphArenaTest, ACaptureUsesAgainWhatItFreesOnTheSameStream) {
    backend_.begin(1, 7, graph_);
    backend_.begin(2, 7, graph_);
    void* block = pool_.allocate(1000, stream(1));
    pool_.deallocate(block, stream(1));
    EXPECT_NE(pool_.allocate(1000, stream(2)), block) << "nothing orders the second stream behind the free";
    EXPECT_EQ(pool_.allocate(1000, stream(1)), block);
    EXPECT_EQ(pool_.statistics().live_graphs, 1u) << "two streams, one capture";
    pool_.deallocate(block, stream(1));
    EXPECT_NE(refusal([&] { pool_.deallocate(block, stream(1)); }).find("already free"), std::string::npos);
    backend_.end(1);
    backend_.end(2);
}

TEST_F(GraphArenaTest, OtherFreesAreRefusedAndChangeNothing) {
    void* ordinary = pool_.allocate(1000, stream(1));
    FakeGraph other;
    backend_.begin(1, 7, graph_);
    backend_.begin(2, 8, other);
    auto* block = static_cast<char*>(pool_.allocate(1000, stream(1)));
    EXPECT_NE(refusal([&] { pool_.deallocate(ordinary, stream(1)); }).find("no block of that graph"),
              std::string::npos);
    EXPECT_NE(refusal([&] { pool_.deallocate(block, stream(2)); }).find("another graph"), std::string::npos);
    EXPECT_NE(refusal([&] { pool_.deallocate(block + 256, stream(1)); }).find("no block's address"), std::string::npos);
    backend_.end(1);
    backend_.end(2);
    EXPECT_NE(refusal([&] { pool_.deallocate(block, stream(1)); }).find("belongs to the graph of capture 7"),
              std::string::npos);
    EXPECT_NE(refusal([&] { pool_.deallocate(block, stream(3)); }).find("needs no free"), std::string::npos);
    EXPECT_EQ(pool_.statistics().live_graphs, 1u) << "the second capture has allocated nothing";
    pool_.deallocate(ordinary, stream(1));
    expect_sound();
}

TEST_F(GraphArenaTest, AnAbandonedCaptureLeaksNothing) {
    for (std::uint64_t capture = 1; capture <= 20; ++capture) {
        FakeGraph abandoned;
        backend_.begin(1, capture, abandoned);
        ASSERT_NE(pool_.try_allocate(20 * MiB, stream(1)), nullptr) << "capture " << capture;
        backend_.end(1);
    }
    EXPECT_LE(pool_.get_pool_size(), 64 * MiB);
    pool_.trim();
    EXPECT_EQ(pool_.get_pool_size(), 0u);
}

TEST_F(GraphArenaTest, NoMemoryIsSaidAndAFailedRetentionLeavesNothing) {
    backend_.begin(1, 7, graph_);
    EXPECT_EQ(pool_.try_allocate(65 * MiB, stream(1)), nullptr);
    EXPECT_THROW((void)pool_.allocate(65 * MiB, stream(1)), out_of_memory);
    void* most = pool_.try_allocate(60 * MiB, stream(1));
    EXPECT_NE(most, nullptr);
    EXPECT_EQ(pool_.try_allocate(60 * MiB, stream(1)), nullptr);
    backend_.end(1);
    FakeGraph second;
    backend_.fail_to_retain();
    backend_.begin(1, 8, second);
    EXPECT_THROW((void)pool_.allocate(100, stream(1)), cuda_error);
    EXPECT_EQ(pool_.statistics().live_graphs, 1u);
    backend_.end(1);
}

TEST_F(GraphArenaTest, ARegisteredStreamAnnouncesItsCapture) {
    const RegisteredStream registered(pool_, stream(1));
    const_cast<RegisteredStream&>(registered).announce_capture();
    EXPECT_NE(refusal([&] { pool_.allocate(100, registered); }).find("not under way"), std::string::npos);
    backend_.begin(1, 7, graph_);
    void* block = pool_.allocate(100, registered);
    pool_.deallocate(block, registered);
    EXPECT_EQ(pool_.allocate(100, registered), block);
    backend_.end(1);
    const_cast<RegisteredStream&>(registered).end_capture();
    EXPECT_NE(pool_.allocate(100, registered), block);
}

TEST_F(GraphArenaTest, AGraphMayOutliveThePool) {
    FakeGraph graph;
    {
        MemoryPoolManager pool(options(backend_));
        backend_.begin(1, 9, graph);
        (void)pool.allocate(100, stream(1));
        FakeGraph gone;
        backend_.begin(2, 10, gone);
        (void)pool.allocate(100, stream(2));
        gone.retained.clear();
        backend_.end(1);
        backend_.end(2);
    }
    graph.retained.clear();
}

TEST_F(GraphArenaTest, GraphsGoOnOtherThreadsWhileThePoolIsUsed) {
    // The manual backend is for one thread, so only the graphs' ends come from others.
    for (std::uint64_t capture = 1; capture <= 200; ++capture) {
        FakeGraph graph;
        backend_.begin(1, capture, graph);
        ASSERT_NE(pool_.try_allocate(5 * MiB, stream(1)), nullptr);
        backend_.end(1);
        std::thread ends([&] { graph.retained.clear(); });
        pool_.deallocate(pool_.allocate(MiB + capture, stream(3)), stream(3));
        ends.join();
    }
    pool_.trim();
    EXPECT_EQ(pool_.statistics().live_graphs, 0u);
    expect_sound();
}

} // namespace
} // namespace cuda_zstd
