// SPDX-License-Identifier: MIT
// While a capture goes on, memory that a request can be made to wait for stays within reach of all, whatever lies
// beside it: a block is never joined with one that only a wait for all streams would free.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"
#include "strict_backend.hpp"

#include <gtest/gtest.h>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

class CaptureReach : public testing::TestWithParam<Strategy> {
protected:
    static cudaStream_t stream(std::uint64_t id) { return detail::ManualBackend::handle(id); }
    static PoolOptions options(Backend& backend) {
        PoolOptions made;
        made.strategy = GetParam();
        made.max_bytes = 32 * MiB;
        made.custom_backend = &backend;
        made.growth = Growth::exact;
        // Else settled chunks are exchanged for others before anything is joined.
        made.stream_policy = StreamPolicy::wait_then_grow;
        made.diagnostics = nullptr;
        return made;
    }
    /// A block that its stream, a bare handle, has had before: it records nothing when it frees it again.
    void* come_back(std::uint64_t id, std::size_t bytes) {
        pool_.deallocate(pool_.allocate(bytes, stream(id)), stream(id));
        return pool_.allocate(bytes, stream(id));
    }
    /// Behind work that is not done.
    void free_behind_work(void* block, std::uint64_t id) {
        backend_.submit(id);
        pool_.deallocate(block, stream(id));
    }
    void expect_sound() {
        EXPECT_TRUE(backend_.forbidden().empty()) << backend_.forbidden().front();
        EXPECT_EQ(PoolInspector::check(pool_), "");
    }

    detail::StrictBackend backend_;
    MemoryPoolManager pool_{options(backend_)};
};

TEST_P(CaptureReach, ARequestThatCannotBeServedLeavesTheOthersTheirMemory) {
    void* low = pool_.allocate(8 * MiB, stream(4));
    void* open = come_back(2, 16 * MiB);
    void* high = pool_.allocate(8 * MiB, stream(4));
    ASSERT_EQ(pool_.get_pool_size(), 32 * MiB);
    free_behind_work(open, 2);
    {
        const CaptureNotice notice(backend_, stream(1));
        backend_.begin(1);
        pool_.deallocate(low, stream(4));
        pool_.deallocate(high, stream(4));
        EXPECT_EQ(pool_.try_allocate(24 * MiB, stream(4)), nullptr) << "what is open cannot be waited for";
        expect_sound();
        void* block = pool_.try_allocate(8 * MiB, stream(5));
        EXPECT_NE(block, nullptr) << "this waits for nobody";
        EXPECT_NE(pool_.try_allocate(8 * MiB, stream(1)), nullptr) << "nor does the graph";
        if (block != nullptr) pool_.deallocate(block, stream(5));
        backend_.end(1);
    }
    backend_.drop_graphs();
    void* all = pool_.try_allocate(32 * MiB, stream(4));
    EXPECT_NE(all, nullptr) << "now all streams can be waited for";
    pool_.deallocate(all, stream(4));
    expect_sound();
}

/// The smaller block would fit better, and cannot be had.
TEST_P(CaptureReach, ABlockWithinReachIsTakenBeforeOneThatIsNot) {
    void* pending = pool_.allocate(16 * MiB, stream(3));
    void* open = come_back(2, 10 * MiB);
    void* rest = pool_.allocate(6 * MiB, stream(4));
    free_behind_work(pending, 3);
    free_behind_work(open, 2);
    {
        const CaptureNotice notice(backend_);
        const unsigned waits = backend_.waits;
        void* block = pool_.try_allocate(10 * MiB, stream(4));
        EXPECT_EQ(block, pending);
        EXPECT_EQ(backend_.waits, waits + 1) << "its stream has recorded it";
        pool_.deallocate(block, stream(4));
    }
    pool_.deallocate(rest, stream(4));
    expect_sound();
}

INSTANTIATE_TEST_SUITE_P(Strategies, CaptureReach,
                         testing::Values(Strategy::best_fit, Strategy::first_fit, Strategy::segregated),
                         [](const auto& strategy) {
                             return strategy.param == Strategy::best_fit    ? "BestFit"
                                    : strategy.param == Strategy::first_fit ? "FirstFit"
                                                                            : "Segregated";
                         });

} // namespace
} // namespace cuda_zstd
