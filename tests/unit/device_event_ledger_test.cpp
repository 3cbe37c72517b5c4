// SPDX-License-Identifier: MIT
// Events that come late, at one time, or not at all; and the two clocks.
#include "clock_map.hpp"
#include "device_event_ledger.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::detail;

DeviceEvent event(DeviceEventKind kind, std::uint64_t time_ns, std::uint64_t block, std::uint64_t bytes = 100) {
    DeviceEvent made;
    made.kind = kind;
    made.time_ns = time_ns;
    made.block = block;
    made.bytes = bytes;
    made.kernel = 1;
    return made;
}
constexpr auto take = DeviceEventKind::allocation;
constexpr auto give = DeviceEventKind::free;

struct Ledger : DeviceEventLedger {
    /// What lives after each event.
    std::vector<std::uint64_t> drained(std::vector<DeviceEvent> events) {
        std::vector<std::uint64_t> live;
        add(events, [&](std::uint64_t, std::uint64_t bytes, std::uint64_t) { live.push_back(bytes); });
        return live;
    }
    std::uint64_t live_blocks() const {
        std::uint64_t blocks = 0;
        for (const DeviceUse& one : use())
            blocks += one.live_blocks;
        return blocks;
    }
};

TEST(DeviceEventLedger, EventsAtOneTimeTakeTurns) {
    Ledger ledger;
    EXPECT_EQ(ledger.drained({event(give, 5, 1), event(take, 5, 1), event(give, 5, 1), event(take, 5, 1)}),
              (std::vector<std::uint64_t>{100, 0, 100, 0}));
    EXPECT_EQ(ledger.drained({event(take, 6, 1)}), (std::vector<std::uint64_t>{100}));
    EXPECT_EQ(ledger.drained({event(take, 7, 1, 30), event(give, 7, 1)}), (std::vector<std::uint64_t>{0, 30}));
    EXPECT_EQ(ledger.live_blocks(), 1u);
}

TEST(DeviceEventLedger, ALateFreeIsOfTheBlockBefore) {
    Ledger ledger;
    ledger.drained({event(take, 1, 1, 10), event(take, 3, 1, 20)});
    EXPECT_EQ(ledger.live_blocks(), 1u);
    EXPECT_EQ(ledger.drained({event(give, 2, 1)}), (std::vector<std::uint64_t>{20}));
    EXPECT_EQ(ledger.drained({event(give, 4, 1)}), (std::vector<std::uint64_t>{0}));
}

TEST(DeviceEventLedger, ALateAllocationIsOfTheFreeBefore) {
    Ledger ledger;
    ledger.drained({event(give, 2, 1)});
    EXPECT_EQ(ledger.drained({event(take, 1, 1)}), (std::vector<std::uint64_t>{0}));
    // A free of a block that nobody saw allocated does not end a later block.
    ledger.drained({event(give, 5, 2)});
    EXPECT_EQ(ledger.drained({event(take, 6, 2)}), (std::vector<std::uint64_t>{100}));
}

/// However the events are cut into drains, and whatever the timer's step.
TEST(DeviceEventLedger, AgreesWithAModelInAnyOrder) {
    for (unsigned seed = 1; seed <= 200; ++seed) {
        std::mt19937 random(seed);
        const std::uint64_t step = 1 + random() % 8;
        std::vector<DeviceEvent> events;
        std::vector<bool> live(6);
        for (std::uint64_t now = 0; now < 300; ++now) {
            const std::uint64_t block = random() % live.size();
            events.push_back(event(live[block] ? give : take, now / step, block + 1, 1 + block));
            live[block] = !live[block];
        }
        // Late by a few places.
        std::vector<DeviceEvent> arriving = events;
        if (step == 1)
            for (std::size_t at = 0; at + 1 < arriving.size(); at += 1 + random() % 3)
                std::swap(arriving[at], arriving[at + 1]);
        Ledger ledger;
        for (auto at = arriving.begin(); at != arriving.end();) {
            const auto end = at + std::min<std::ptrdiff_t>(1 + random() % 50, arriving.end() - at);
            // A drain that ends within a step of the timer would make what follows ambiguous.
            auto whole = end;
            while (step > 1 && whole != arriving.end() && whole->time_ns == (whole - 1)->time_ns)
                ++whole;
            ledger.drained({at, whole});
            at = whole;
        }
        ASSERT_EQ(ledger.live_blocks(), static_cast<std::uint64_t>(std::count(live.begin(), live.end(), true)))
            << "seed " << seed << ", step " << step;
    }
}

TEST(ClockMap, FollowsTheHostsClock) {
    ClockMap map;
    map.compare({1000, 5000, 5020}); // 5010 there
    EXPECT_EQ(map.host_ns(1000), 5010u);
    EXPECT_EQ(map.host_ns(900), 4910u);
    EXPECT_EQ(map.host_ns(1100), 5110u);
    EXPECT_EQ(map.uncertainty_ns(), 10u);
    map.compare({2000, 6200, 6220}); // the device's clock is 20 % slow
    EXPECT_EQ(map.host_ns(1000), 5010u);
    EXPECT_EQ(map.host_ns(1500), 5610u);
    EXPECT_EQ(map.host_ns(2000), 6210u);
    EXPECT_EQ(map.host_ns(2100), 6310u);
    std::uint64_t before = 0;
    for (std::uint64_t at = 500; at < 3000; ++at) {
        ASSERT_GE(map.host_ns(at), before);
        before = map.host_ns(at);
    }
}

} // namespace
