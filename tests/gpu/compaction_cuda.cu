// SPDX-License-Identifier: MIT
#include "../suite/cuda_launch.cuh"

#include "../suite/compaction.inc"
#include "../suite/compaction_policy.inc"

namespace cuda_zstd::test {

class Graph {
public:
    /// What `submit` submits to the stream.
    template <class Submit>
    Graph(cudaStream_t stream, const Submit& submit) {
        cudaGraph_t graph = nullptr;
        EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
        submit();
        EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
        EXPECT_EQ(cudaGraphInstantiate(&exec_, graph, 0), cudaSuccess);
        EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    ~Graph() { EXPECT_EQ(cudaGraphExecDestroy(exec_), cudaSuccess); }
    void launch(cudaStream_t stream) { ASSERT_EQ(cudaGraphLaunch(exec_, stream), cudaSuccess); }

private:
    cudaGraphExec_t exec_ = nullptr;
};

TEST_F(Compact, ACapturedGraphCompactsEachTime) {
    make_pool(std::size_t{64} << 20);
    for (const Compaction& how : {Compaction{}, quiet}) {
        Graph graph(stream_, [&] { pool_->compact(stream_, how); });
        for (int round = 0; round < 3; ++round) {
            run(20000, AllocateAndFill{Sizes{0, 1000}, slips_});
            expect_all_served(20000);
            run(20000, VerifyAndFree{slips_});
            expect_no_errors(20000);
            const std::uint64_t before = pool_->report().sequence;
            graph.launch(stream_);
            Launch::backend().synchronize(stream_);
            const HeapReport report = pool_->report();
            EXPECT_EQ(report.sequence, before + 1);
            expect_empty(report);
        }
    }
    expect_sound();
}

/// Every launch of a compaction that is being captured fails once: what was captured till then does no harm, however
/// often the graph runs, and compactions of other launches work beside it.
TEST_F(Compact, ACaptureThatFailsLeavesAGraphThatDoesNoHarm) {
    make_pool(std::size_t{32} << 20);
    for (const Compaction& how : {Compaction{}, quiet}) {
        unsigned at = 1;
        for (bool is_through = false; !is_through && !HasFailure(); ++at) {
            SCOPED_TRACE("launch " + std::to_string(at) + " fails");
            bool has_failed = false;
            Graph graph(stream_, [&] {
                detail::launch_fault.set(at);
                try {
                    pool_->compact(stream_, how);
                } catch (const cuda_error&) {
                    has_failed = true;
                }
                is_through = detail::launch_fault.is_set();
                detail::launch_fault.set(0);
            });
            EXPECT_NE(has_failed, is_through);
            for (int round = 0; round < 2; ++round) {
                run(6000, AllocateAndFill{Sizes{0, 1500}, slips_});
                expect_all_served(6000);
                run(6000, FreeMost{slips_, 50});
                graph.launch(stream_);
                expect_sound();
                const HeapReport after = compacted_by(quiet);
                EXPECT_EQ(after.live_blocks, 120u);
                EXPECT_EQ(after.empty_slabs, 0u);
                expect_sound();
                run(6000, VerifyAndFree{slips_});
                expect_no_errors(6000);
                expect_empty(compacted_by(how));
            }
        }
        EXPECT_GE(at, how.form == Compaction::Form::quiet ? 9u : 5u);
    }
}

TEST_F(Compact, AGraphsCompactionMeetsOthersAndChurn) {
    make_pool(std::size_t{64} << 20);
    Graph graph(stream_, [&] { pool_->compact(stream_); });
    const cudaStream_t others[] = {Launch::backend().create_stream(), Launch::backend().create_stream()};
    Launch::backend().synchronize(stream_);
    for (unsigned round = 0; round < usual_or_quick(5, 1); ++round) {
        Launch::run(others[0], pool_->ref<Launch::Env>(), 20000, Churn{slips_, 10});
        for (int turn = 0; turn < 10; ++turn) {
            graph.launch(stream_);
            pool_->compact(others[1]);
        }
    }
    Launch::backend().synchronize();
    for (const cudaStream_t other : others)
        Launch::backend().destroy_stream(other);
    expect_no_errors(20000);
    expect_sound();
    expect_empty(compacted());
}

} // namespace cuda_zstd::test
