// SPDX-License-Identifier: MIT
// While a capture goes on, on this stream or another, the pool makes no call that the driver forbids then: not in an
// allocation, not in a trim, not on the last means before out_of_memory.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"
#include "strict_backend.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

using detail::StrictBackend;

enum class Known { by_allocation, by_announcement, by_notice };
const char* name_of(Known known) {
    return known == Known::by_allocation ? "ByAllocation" : known == Known::by_notice ? "ByNotice" : "ByAnnouncement";
}

class CaptureSafety : public testing::TestWithParam<Known> {
protected:
    static cudaStream_t stream(std::uint64_t id) { return detail::ManualBackend::handle(id); }
    static PoolOptions options(Backend& backend, std::size_t max_bytes) {
        PoolOptions made;
        made.max_bytes = max_bytes;
        made.custom_backend = &backend;
        made.growth = Growth::exact;
        made.diagnostics = nullptr;
        return made;
    }
    /// Stream 1 is captured from now on, and the pool or the backend has been told.
    void begin(MemoryPoolManager& pool) {
        if (GetParam() == Known::by_announcement) {
            registered_ = std::make_unique<RegisteredStream>(pool, stream(1));
            registered_->announce_capture();
        }
        if (GetParam() == Known::by_notice) notice_ = std::make_unique<CaptureNotice>(backend_);
        backend_.begin(1);
        if (GetParam() == Known::by_allocation) {
            EXPECT_NE(pool.try_allocate(1000, stream(1)), nullptr);
        }
    }
    void end(MemoryPoolManager& pool) {
        backend_.end(1);
        // Its next call on the stream tells.
        if (GetParam() == Known::by_allocation) pool.deallocate(pool.allocate(1000, stream(1)), stream(1));
        registered_.reset();
        notice_.reset();
        backend_.drop_graphs();
    }
    /// Leaves blocks behind whose stream has recorded nothing for them, with work that is not done.
    void leave_open(MemoryPoolManager& pool, std::uint64_t id, std::size_t bytes) {
        for (int i = 0; i < 3; ++i) {
            void* block = pool.allocate(bytes, stream(id));
            backend_.submit(id);
            pool.deallocate(block, stream(id));
        }
    }

    StrictBackend backend_;
    std::unique_ptr<RegisteredStream> registered_;
    std::unique_ptr<CaptureNotice> notice_;
};

TEST_P(CaptureSafety, TrimLeavesWhatOnlyTheDeviceWouldTell) {
    MemoryPoolManager pool(options(backend_, 256 * MiB));
    leave_open(pool, 2, 6 * MiB);
    leave_open(pool, 3, 700);
    ASSERT_GE(pool.get_pool_size(), 6 * MiB);
    begin(pool);
    EXPECT_NO_THROW(pool.trim());
    EXPECT_TRUE(backend_.forbidden().empty()) << backend_.forbidden().front();
    EXPECT_GE(pool.get_pool_size(), 6 * MiB) << "the work that uses it is not known to be done";
    EXPECT_EQ(PoolInspector::check(pool), "");
    end(pool);
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 0u) << "after the capture nothing is left behind";
    EXPECT_TRUE(backend_.forbidden().empty()) << backend_.forbidden().front();
    EXPECT_EQ(PoolInspector::check(pool), "");
}

TEST_P(CaptureSafety, TheLastMeansLeaveACaptureAlone) {
    for (const StreamPolicy policy : {StreamPolicy::grow_then_wait, StreamPolicy::wait_then_grow}) {
        for (const std::size_t bytes : {std::size_t{700}, std::size_t{100000}, 10 * MiB}) {
            PoolOptions made = options(backend_, 32 * MiB);
            made.stream_policy = policy;
            MemoryPoolManager pool(made);
            leave_open(pool, 2, 20 * MiB);
            begin(pool);
            std::vector<void*> blocks;
            std::string text;
            try {
                for (;;) {
                    blocks.push_back(pool.allocate(bytes, stream(4)));
                }
            } catch (const out_of_memory& error) {
                text = error.what();
            }
            EXPECT_TRUE(backend_.forbidden().empty()) << backend_.forbidden().front();
            EXPECT_NE(text.find("a capture that goes on"), std::string::npos) << text;
            EXPECT_EQ(std::set<void*>(blocks.begin(), blocks.end()).size(), blocks.size());
            EXPECT_EQ(PoolInspector::check(pool), "");
            end(pool);
            void* more = pool.try_allocate(bytes, stream(4));
            EXPECT_NE(more, nullptr) << "now all streams can be waited for";
            pool.deallocate(more, stream(4));
            for (void* block : blocks)
                pool.deallocate(block, stream(4));
            pool.trim();
            EXPECT_EQ(pool.get_pool_size(), 0u);
        }
    }
    EXPECT_TRUE(backend_.forbidden().empty()) << backend_.forbidden().front();
}

/// Whoever is known to live is recorded on and waited for alone.
TEST_P(CaptureSafety, RegisteredStreamsAreWaitedForOneByOne) {
    MemoryPoolManager pool(options(backend_, 64 * MiB));
    const RegisteredStream other(pool, stream(2));
    begin(pool);
    for (const std::size_t bytes : {std::size_t{700}, std::size_t{100000}, 20 * MiB})
        for (int i = 0; i < 3; ++i) {
            void* block = pool.allocate(bytes, other);
            backend_.submit(2);
            pool.deallocate(block, other);
        }
    void* large = pool.allocate(40 * MiB, stream(4));
    EXPECT_NE(large, nullptr) << "what the registered stream has freed is within reach";
    pool.deallocate(large, stream(4));
    backend_.submit(4);
    const unsigned idle_waits = backend_.idle_waits;
    pool.trim();
    EXPECT_EQ(backend_.idle_waits, idle_waits);
    EXPECT_EQ(backend_.completed(2), backend_.submitted(2)) << "its work was waited for";
    EXPECT_TRUE(backend_.forbidden().empty()) << backend_.forbidden().front();
    end(pool);
}

TEST_P(CaptureSafety, ResetIsRefusedByName) {
    MemoryPoolManager pool(options(backend_, 64 * MiB));
    void* block = pool.allocate(1000, stream(2));
    begin(pool);
    backend_.drop_graphs();
    if (GetParam() != Known::by_allocation) {
        try {
            pool.reset();
            ADD_FAILURE() << "reset() waits for all streams";
        } catch (const usage_error& error) {
            EXPECT_NE(std::string(error.what()).find("while a stream is being captured"), std::string::npos);
        }
    }
    EXPECT_TRUE(backend_.forbidden().empty()) << backend_.forbidden().front();
    pool.deallocate(block, stream(2));
    end(pool);
    EXPECT_NO_THROW(pool.reset());
}

INSTANTIATE_TEST_SUITE_P(Known, CaptureSafety,
                         testing::Values(Known::by_allocation, Known::by_announcement, Known::by_notice),
                         [](const auto& known) { return std::string(name_of(known.param)); });

/// The fake forbids what it says: without the pool's knowledge of the capture, its wait for all streams is caught.
TEST(CaptureSafetyOfTheTest, AnUnknownCaptureIsBroken) {
    StrictBackend backend;
    PoolOptions options;
    options.max_bytes = 64 * MiB;
    options.custom_backend = &backend;
    options.diagnostics = nullptr;
    MemoryPoolManager pool(options);
    for (int i = 0; i < 3; ++i)
        pool.deallocate(pool.allocate(5 * MiB, detail::ManualBackend::handle(2)), detail::ManualBackend::handle(2));
    backend.begin(1);
    EXPECT_THROW(pool.trim(), cuda_error);
    EXPECT_EQ(backend.forbidden(), std::vector<std::string>{"cudaDeviceSynchronize"});
    backend.end(1);
}

} // namespace
} // namespace cuda_zstd
