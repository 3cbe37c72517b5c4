// SPDX-License-Identifier: MIT
// Who wants to be alone gets in, however many others come and go.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "turnstile.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace cuda_zstd {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using detail::Turnstile;

enum class Places : unsigned char { free, taken };

/// Threads that own all places, so that others share gates.
class Occupants {
public:
    Occupants(Turnstile& turnstile, Places places) {
        if (places == Places::free) return;
        for (std::size_t i = 0; i < Turnstile::gate_count; ++i)
            threads_.emplace_back([this, &turnstile] {
                { const Turnstile::Passage passage(turnstile); }
                settled_.fetch_add(1);
                left_.wait(false);
            });
        while (settled_.load() != threads_.size())
            std::this_thread::yield();
    }
    ~Occupants() {
        left_.store(true);
        left_.notify_all();
        for (std::thread& thread : threads_)
            thread.join();
    }
    Occupants(const Occupants&) = delete;
    Occupants& operator=(const Occupants&) = delete;

private:
    std::atomic<std::size_t> settled_{0};
    std::atomic<bool> left_{false};
    std::vector<std::thread> threads_;
};

/// Two threads hand one gate to each other so that it is never free: each holds it until the other is in, and lets go
/// only when the other has been kept out for a while.
class Chain {
public:
    Chain(Turnstile& turnstile, Places places) : turnstile_(turnstile), occupants_(turnstile, places) {
        threads_.emplace_back([this] { pass_in_turn(0); });
        wait_for(1);
        // Threads between the two, so that both have the same gate where no place is free.
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
    const Occupants occupants_;
    /// Those that have begun; the even ones are the first thread's.
    std::atomic<unsigned> passages_{0};
    std::atomic<bool> somebody_waits_{false};
    std::atomic<bool> stopped_{false};
    std::atomic<bool> gave_up_{false};
    std::vector<std::thread> threads_;
};

class TurnstileByPlaces : public testing::TestWithParam<Places> {};

TEST_P(TurnstileByPlaces, AChainOfPassagesLetsInWhoWantsToBeAlone) {
    Turnstile turnstile;
    Chain chain(turnstile, GetParam());
    chain.somebody_waits();
    for (int i = 0; i < 3; ++i) {
        const Turnstile::Alone alone(turnstile);
        EXPECT_FALSE(chain.gave_up()) << "the two let nobody in for a minute";
    }
}

/// Passages long and short beside several threads that want to be alone: whoever is alone is, and nobody sleeps on.
TEST_P(TurnstileByPlaces, WhoIsAloneIsTheOnlyOneInside) {
    constexpr unsigned rounds = 3000;
    Turnstile turnstile;
    const Occupants occupants(turnstile, GetParam());
    struct alignas(64) Inside {
        std::atomic<bool> flag{false};
    };
    std::array<Inside, 3> inside;
    std::atomic<unsigned> passages{0};
    std::uint64_t guarded = 0;
    std::atomic<unsigned> wrong{0};
    std::atomic<unsigned> alone_running{2};
    std::vector<std::thread> threads;
    for (Inside& own : inside)
        threads.emplace_back([&] {
            unsigned i = 0;
            for (; alone_running.load() != 0; ++i) {
                // No atomic operation that would do the barrier's work.
                const Turnstile::Passage passage(turnstile);
                own.flag.store(true, std::memory_order_relaxed);
                const std::uint64_t before = guarded;
                if (i % 64 == 0) std::this_thread::sleep_for(20us);
                if (guarded != before) wrong.fetch_add(1);
                own.flag.store(false, std::memory_order_relaxed);
            }
            passages.fetch_add(i);
        });
    const auto is_alone = [&] {
        return std::none_of(inside.begin(), inside.end(), [](const Inside& i) { return i.flag.load(); });
    };
    for (unsigned t = 0; t < 2; ++t)
        threads.emplace_back([&, t] {
            for (unsigned i = 0; i < rounds; ++i) {
                if (i % 8 == t) std::this_thread::sleep_for(20us);
                const Turnstile::Alone alone(turnstile);
                if (!is_alone()) wrong.fetch_add(1);
                ++guarded;
                if (!is_alone()) wrong.fetch_add(1);
            }
            alone_running.fetch_sub(1);
        });
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(wrong.load(), 0u);
    EXPECT_EQ(guarded, 2u * rounds);
    EXPECT_GT(passages.load(), rounds) << "there was little to be kept out";
}

INSTANTIATE_TEST_SUITE_P(Places, TurnstileByPlaces, testing::Values(Places::free, Places::taken));

/// A passage within another, as of a source of memory that asks the pool something, ends nothing.
TEST(TurnstileTest, APassageWithinAnotherIsPartOfIt) {
    Turnstile turnstile;
    std::atomic<bool> is_alone{false};
    std::optional<Turnstile::Passage> outer(std::in_place, turnstile);
    { const Turnstile::Passage inner(turnstile); }
    std::thread other([&] {
        const Turnstile::Alone alone(turnstile);
        is_alone.store(true);
    });
    std::this_thread::sleep_for(20ms);
    EXPECT_FALSE(is_alone.load());
    { const Turnstile::Passage inner(turnstile); }
    EXPECT_FALSE(is_alone.load()) << "and does not wait for who waits for it";
    outer.reset();
    other.join();
    EXPECT_TRUE(is_alone.load());
}

/// A place belongs to the next thread when its own has ended: more threads come one after the other than there are.
TEST(TurnstileTest, PlacesAreHandedOn) {
    Turnstile turnstile;
    std::uint64_t guarded = 0;
    std::atomic<bool> stopped{false};
    std::thread alone([&] {
        while (!stopped.load()) {
            {
                const Turnstile::Alone only(turnstile);
                ++guarded;
            }
            std::this_thread::sleep_for(20us);
        }
    });
    for (std::size_t i = 0; i < 4 * Turnstile::gate_count; ++i)
        std::thread([&] {
            EXPECT_TRUE(Turnstile::owns_place());
            const Turnstile::Passage passage(turnstile);
            const volatile std::uint64_t before = guarded;
            std::this_thread::yield();
            EXPECT_EQ(guarded, before);
        }).join();
    stopped.store(true);
    alone.join();
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
