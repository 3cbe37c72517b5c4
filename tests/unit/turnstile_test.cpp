// SPDX-License-Identifier: MIT
// Who wants to be alone gets in, however many others come and go.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "turnstile.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using detail::Turnstile;

/// Two threads hand one gate to each other so that it is never free: each holds it until the other is in, and lets go
/// only when the other has been kept out for a while.
class Chain {
public:
    explicit Chain(Turnstile& turnstile) : turnstile_(turnstile) {
        threads_.emplace_back([this] { pass_in_turn(0); });
        wait_for(1);
        // Threads between the two, so that both have the same gate.
        for (std::size_t i = 1; i < Turnstile::gate_count; ++i)
            std::thread([this] { const Turnstile::Passage passage(turnstile_); }).join();
        threads_.emplace_back([this] { pass_in_turn(1); });
        wait_for(10);
    }
    ~Chain() {
        stopped_.store(true);
        for (std::thread& thread : threads_)
            thread.join();
    }
    /// From now on a holder lets go when the other does not come in.
    void somebody_waits() { somebody_waits_.store(true); }
    /// Whether the chain had to end by itself.
    bool gave_up() const { return gave_up_.load(); }

private:
    void wait_for(unsigned passages) {
        while (passages_.load() < passages)
            std::this_thread::yield();
    }
    void pass_in_turn(unsigned first) {
        std::optional<Clock::time_point> waiting_since;
        for (unsigned turn = first; !stopped_.load(); turn += 2) {
            while (passages_.load() != turn && !stopped_.load())
                std::this_thread::yield();
            const Turnstile::Passage passage(turnstile_);
            passages_.store(turn + 1);
            const auto since = Clock::now();
            while (passages_.load() == turn + 1 && !stopped_.load()) {
                if (somebody_waits_.load()) {
                    if (Clock::now() - since > 100ms) break;
                    if (!waiting_since) waiting_since = Clock::now();
                    if (Clock::now() - *waiting_since > 60s) {
                        gave_up_.store(true);
                        stopped_.store(true);
                    }
                }
                std::this_thread::yield();
            }
        }
    }

    Turnstile& turnstile_;
    /// Those that have begun; the even ones are the first thread's.
    std::atomic<unsigned> passages_{0};
    std::atomic<bool> somebody_waits_{false};
    std::atomic<bool> stopped_{false};
    std::atomic<bool> gave_up_{false};
    std::vector<std::thread> threads_;
};

TEST(TurnstileTest, AChainOfPassagesLetsInWhoWantsToBeAlone) {
    Turnstile turnstile;
    Chain chain(turnstile);
    chain.somebody_waits();
    for (int i = 0; i < 3; ++i) {
        const Turnstile::Alone alone(turnstile);
        EXPECT_FALSE(chain.gave_up()) << "the two let nobody in for a minute";
    }
}

/// More threads than there are gates, which pass as fast as they can: resets come to an end beside them.
TEST(TurnstileTest, ResetIsNotStarved) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.max_bytes = std::size_t{96} << 20;
    options.diagnostics = nullptr;
    MemoryPoolManager pool(options);
    std::atomic<unsigned> passing{0};
    std::atomic<bool> stopped{false};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < Turnstile::gate_count + 8; ++t)
        threads.emplace_back([&] {
            (void)pool.statistics();
            passing.fetch_add(1);
            while (!stopped.load())
                (void)pool.statistics();
        });
    while (passing.load() != threads.size())
        std::this_thread::yield();
    for (int i = 0; i < 10; ++i)
        pool.reset();
    EXPECT_EQ(pool.statistics().resets, 10u);
    stopped.store(true);
    for (std::thread& thread : threads)
        thread.join();
}

} // namespace
} // namespace cuda_zstd
