// SPDX-License-Identifier: MIT
// What others know of a capture is true when they act on it: when it begins while a pool is at work, and when it is
// over.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "pool_state.hpp"
#include "strict_backend.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

class CaptureRace : public testing::Test {
protected:
    static cudaStream_t stream(std::uint64_t id) { return detail::ManualBackend::handle(id); }
    static PoolOptions options(Backend& backend, std::size_t max_bytes = 64 * MiB) {
        PoolOptions made;
        made.max_bytes = max_bytes;
        made.custom_backend = &backend;
        made.growth = Growth::exact;
        made.diagnostics = nullptr;
        return made;
    }
    /// Leaves a block behind whose stream, a bare handle, has recorded nothing for it.
    static void leave_open(MemoryPoolManager& pool, std::uint64_t id, std::size_t bytes) {
        for (int i = 0; i < 3; ++i)
            pool.deallocate(pool.allocate(bytes, stream(id)), stream(id));
    }
    void expect_nothing_forbidden() { EXPECT_TRUE(backend_.forbidden().empty()) << backend_.forbidden().front(); }

    detail::StrictBackend backend_;
};

/// Another thread that announces a capture of stream 1 and begins it, as soon as it is let.
class Capturing {
public:
    Capturing(detail::StrictBackend& backend, std::function<void()> announce)
        : backend_(backend), announce_(std::move(announce)) {}
    ~Capturing() {
        if (thread_.joinable()) thread_.join();
    }
    /// Returns when it has begun, or after a time in which it would have.
    void start() {
        if (std::exchange(is_started_, true)) return;
        thread_ = std::thread([this] {
            announce_();
            backend_.begin(1);
            has_begun_.store(true);
        });
        for (int i = 0; i < 50 && !has_begun_.load(); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    void join() { thread_.join(); }
    bool is_started() const { return is_started_; }
    bool has_begun() const { return has_begun_.load(); }

private:
    detail::StrictBackend& backend_;
    std::function<void()> announce_;
    bool is_started_ = false;
    std::atomic<bool> has_begun_{false};
    std::thread thread_;
};

TEST_F(CaptureRace, AnAnnouncementWaitsForWhoWaitsForAllStreams) {
    MemoryPoolManager pool(options(backend_));
    RegisteredStream registered(pool, stream(1));
    std::unique_ptr<CaptureNotice> notice;
    const std::function<void()> announcements[]{
        [&] { notice = std::make_unique<CaptureNotice>(backend_); },
        [&] { notice = std::make_unique<CaptureNotice>(backend_, stream(1)); },
        [&] { registered.announce_capture(); },
    };
    const std::function<void()> waits[]{[&] { pool.trim(); }, [&] { pool.reset(); }};
    for (const auto& announce : announcements)
        for (const auto& wait : waits) {
            leave_open(pool, 2, 6 * MiB);
            Capturing other(backend_, announce);
            backend_.during_idle_wait = [&] { other.start(); };
            EXPECT_NO_THROW(wait());
            backend_.during_idle_wait = nullptr;
            ASSERT_TRUE(other.is_started()) << "nobody has waited for all streams";
            other.join();
            EXPECT_TRUE(other.has_begun()) << "it begins after the wait";
            backend_.end(1);
            registered.end_capture();
            notice.reset();
        }
    expect_nothing_forbidden();
}

/// The pool records on a registered stream when another one wants its memory: not any more once a capture of it was
/// announced, and an announcement waits for a record that is under way.
TEST_F(CaptureRace, NothingIsRecordedOnAStreamWhoseCaptureWasAnnounced) {
    for (const std::size_t bytes : {std::size_t{700}, std::size_t{100000}, 20 * MiB}) {
        MemoryPoolManager pool(options(backend_, 32 * MiB));
        RegisteredStream registered(pool, stream(1));
        for (int i = 0; i < 3; ++i)
            pool.deallocate(pool.allocate(bytes, registered), registered);
        Capturing other(backend_, [&] { registered.announce_capture(); });
        backend_.before_record = [&](std::uint64_t id) {
            if (id == 1) other.start();
        };
        void* all = pool.try_allocate(32 * MiB, stream(4));
        backend_.before_record = nullptr;
        ASSERT_TRUE(other.is_started()) << "nothing was recorded";
        EXPECT_NE(all, nullptr);
        pool.deallocate(all, stream(4));
        other.join();
        EXPECT_NO_THROW(pool.trim());
        backend_.end(1);
        registered.end_capture();
    }
    expect_nothing_forbidden();
}

TEST_F(CaptureRace, TheEndOfAnotherRegistrationRecordsNothingInACapture) {
    MemoryPoolManager pool(options(backend_));
    RegisteredStream first(pool, stream(1));
    auto second = std::make_unique<RegisteredStream>(pool, stream(1));
    for (int i = 0; i < 3; ++i)
        pool.deallocate(pool.allocate(100000, first), first);
    first.announce_capture();
    first.announce_capture();
    backend_.begin(1);
    second.reset();
    expect_nothing_forbidden();
    backend_.end(1);
    first.end_capture();
    pool.trim();
    EXPECT_EQ(pool.get_pool_size(), 0u) << "each announcement counts once";
}

/// A graph lives on; what the pool holds back for its capture comes back when that is over.
class CaptureEnds : public CaptureRace {
protected:
    void capture_once(MemoryPoolManager& pool) {
        backend_.begin(1);
        EXPECT_NE(pool.try_allocate(1000, stream(1)), nullptr);
        EXPECT_TRUE(backend_.captures_go_on());
        backend_.end(1);
    }
    void expect_all_but_the_graphs(MemoryPoolManager& pool) {
        leave_open(pool, 2, 6 * MiB);
        pool.trim();
        EXPECT_EQ(pool.get_pool_size(), pool.statistics().graph_bytes);
        expect_nothing_forbidden();
    }
};

TEST_F(CaptureEnds, WithTheNoticeThatNamesItsStream) {
    MemoryPoolManager pool(options(backend_));
    {
        const CaptureNotice notice(backend_, stream(1));
        capture_once(pool);
        leave_open(pool, 3, 6 * MiB);
        pool.trim();
        EXPECT_GE(pool.get_pool_size(), 6 * MiB) << "it may still go on";
    }
    expect_all_but_the_graphs(pool);
}

TEST_F(CaptureEnds, WhenItsStreamIsKnownToLive) {
    MemoryPoolManager pool(options(backend_));
    const RegisteredStream alive(pool, stream(1));
    capture_once(pool);
    expect_all_but_the_graphs(pool);
}

TEST_F(CaptureEnds, WhenAnyCallNamesItsStream) {
    MemoryPoolManager pool(options(backend_));
    capture_once(pool);
    pool.release_device_arena(pool.allocate_device_arena(2 * MiB, stream(1)), stream(1));
    expect_all_but_the_graphs(pool);
}

/// Of two captures of one handle the first is over; the second's end is told.
TEST_F(CaptureEnds, WhenItsStreamIsInAnother) {
    MemoryPoolManager pool(options(backend_));
    capture_once(pool);
    {
        const CaptureNotice notice(backend_, stream(1));
        capture_once(pool);
    }
    expect_all_but_the_graphs(pool);
}

} // namespace
} // namespace cuda_zstd
