// SPDX-License-Identifier: MIT
// Tickets for the work that a free waits for: what merging keeps, when they share an event, when they stay open.
#include "cuda_zstd/host/stream_order.hpp"
#include "manual_backend.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <thread>
#include <vector>

namespace cuda_zstd::detail {
namespace {

TEST(Dependencies, KeepTheLaterTicketOfAStreamAndBothOfTwoStreams) {
    ManualBackend backend(2);
    StreamOrder order(backend);
    {
        const StreamRef first{ManualBackend::handle(1), 1};
        const StreamRef second{ManualBackend::handle(2), 2};
        const TicketRef early = order.record(first);
        backend.submit(1);
        const TicketRef late = order.record(first);
        Dependencies merged(late);
        merged.add(early);
        EXPECT_EQ(merged.size(), 1u);
        EXPECT_EQ(merged.front(), late);
        Dependencies other(early);
        other.add(late);
        EXPECT_EQ(other.front(), late);
        merged.add(order.record(second));
        EXPECT_EQ(merged.size(), 2u);
        EXPECT_FALSE(merged.sole_stream().has_value());
        EXPECT_FALSE(order.settle(merged));
        EXPECT_EQ(merged.sole_stream(), 1u) << "stream 2 had no work, so its ticket is complete";
        order.wait_on_device(first, merged);
        EXPECT_EQ(backend.waits, 0u) << "a stream does not wait for itself";
        order.wait_on_device(second, merged);
        EXPECT_EQ(backend.waits, 1u);
        order.wait_on_host(merged);
        EXPECT_TRUE(order.settle(merged));
        EXPECT_TRUE(merged.empty());
    }
    EXPECT_LE(order.events(), 3u);
}

/// Two threads that record on one stream at once: neither ticket stands for the other.
TEST(Dependencies, TicketsRecordedAtOnceAreBothKept) {
    ManualBackend backend(1);
    StreamOrder order(backend);
    {
        const TicketRef a = order.record({ManualBackend::handle(1), 1});
        const TicketRef b = order.record({ManualBackend::handle(1), 1});
        a->began = 10, a->ended = 13;
        b->began = 11, b->ended = 12;
        Dependencies merged(a);
        merged.add(b);
        EXPECT_EQ(merged.size(), 2u);
        EXPECT_EQ(merged.sole_stream(), 1u);
    }
}

/// A stream that frees again what it got from itself makes an event now and then, not each time.
TEST(StreamOrder, DeferredTicketsShareAnEvent) {
    ManualBackend backend(2);
    StreamOrder order(backend);
    {
        const StreamRef stream{ManualBackend::handle(1), 1};
        const StreamRef other{ManualBackend::handle(2), 2};
        backend.submit(1);
        const TicketRef first = order.defer(stream, 1000);
        EXPECT_EQ(first->state, Ticket::State::open);
        backend.submit(1);
        EXPECT_EQ(order.defer(stream, 1000), first) << "it will cover both";
        backend.synchronize();
        EXPECT_FALSE(order.is_complete(*first)) << "nobody knows yet";
        EXPECT_EQ(order.defer(stream, 1000), first) << "asked for, so recorded by the next free";
        EXPECT_EQ(first->state, Ticket::State::recorded);
        EXPECT_TRUE(order.is_complete(*first));
        // The count and the bytes that may be out of reach are bounded.
        const TicketRef many = order.defer(stream, 1000);
        for (unsigned i = 1; i < 32; ++i)
            EXPECT_EQ(order.defer(stream, 1000), many);
        EXPECT_EQ(many->state, Ticket::State::recorded);
        EXPECT_EQ(order.defer(stream, std::size_t{64} << 20)->state, Ticket::State::recorded);
        // A wait for an open ticket completes it, and its stream is made to record for a while.
        backend.submit(1);
        const TicketRef open = order.defer(stream, 1000);
        order.wait_on_device(stream, Dependencies(open));
        EXPECT_EQ(open->state, Ticket::State::open) << "the stream itself does not wait";
        order.wait_on_device(other, Dependencies(open));
        EXPECT_EQ(open->state, Ticket::State::complete);
        EXPECT_EQ(backend.completed(1), backend.submitted(1));
        EXPECT_EQ(order.closings(), 1u);
        EXPECT_EQ(order.defer(stream, 1000)->state, Ticket::State::recorded);
        for (unsigned i = 0; i < 1024; ++i)
            order.defer(stream, 1000);
        EXPECT_EQ(order.defer(stream, 1000)->state, Ticket::State::open) << "the lesson wears off";
    }
    EXPECT_LE(order.events(), 6u);
}

/// Streams that never free again keep their tickets open: so many streams may not, and not for so many bytes.
TEST(StreamOrder, OpenTicketsAreFew) {
    constexpr unsigned streams = 200;
    ManualBackend backend(streams);
    StreamOrder order(backend);
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{8} << 20}) {
        std::vector<TicketRef> tickets;
        for (std::uint64_t id = 1; id <= streams; ++id)
            tickets.push_back(order.defer({ManualBackend::handle(id), id}, bytes));
        const auto open = std::count_if(tickets.begin(), tickets.end(),
                                        [](const TicketRef& t) { return t->state == Ticket::State::open; });
        EXPECT_GE(open, 4);
        EXPECT_LE(open, bytes == 1 ? 64 : 8);
        order.close_all();
        EXPECT_EQ(order.defer({ManualBackend::handle(1), 1}, bytes)->state, Ticket::State::open)
            << "closed tickets count no more";
        order.close_all();
    }
}

/// An open ticket covers what was recorded on its stream before it was opened, and is covered by nothing.
TEST(StreamOrder, OpenTicketsMergeWithoutLoss) {
    ManualBackend backend(1);
    StreamOrder order(backend);
    {
        const StreamRef stream{ManualBackend::handle(1), 1};
        const TicketRef before = order.record(stream);
        const TicketRef open = order.defer(stream, 1);
        Dependencies merged(before);
        merged.add(open);
        EXPECT_EQ(merged.size(), 1u);
        EXPECT_EQ(merged.front(), open);
        EXPECT_EQ(order.record(stream), open) << "an event for a later free does for the open ticket, too";
        const TicketRef again = order.defer(stream, 1);
        merged.add(again);
        EXPECT_EQ(merged.front(), again);
        order.close_all();
        EXPECT_TRUE(order.settle(merged));
    }
}

/// Tickets that several threads give back while others take them: nobody gets one that is somebody's.
TEST(StreamOrder, SpareTicketsAreNobodys) {
    constexpr unsigned threads = 4;
    constexpr unsigned rounds = 300'000;
    ManualBackend backend(1);
    StreamOrder order(backend);
    const StreamRef stream{ManualBackend::handle(1), 1};
    std::array<unsigned, threads> changed{};
    std::barrier start(threads);
    std::vector<std::thread> running;
    for (unsigned t = 0; t < threads; ++t)
        running.emplace_back([&, t] {
            std::array<TicketRef, 5> held;
            std::array<std::uint64_t, 5> began{};
            start.arrive_and_wait();
            for (unsigned i = 0; i < rounds; ++i) {
                const std::size_t at = i * (t + 1) % held.size();
                if (held[at] != nullptr) changed[t] += held[at]->began != began[at];
                held[at] = order.record(stream);
                began[at] = held[at]->began;
            }
        });
    for (std::thread& thread : running)
        thread.join();
    EXPECT_EQ(changed, (std::array<unsigned, threads>{}));
    EXPECT_LE(order.events(), 6u * threads) << "a ticket was lost";
}

} // namespace
} // namespace cuda_zstd::detail
