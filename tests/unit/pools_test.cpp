// SPDX-License-Identifier: MIT
// The three pools on streams that go on at random, against a model that knows for each granule of memory which work
// of which stream may still touch it.
#include "cuda_zstd/host/arena.hpp"
#include "cuda_zstd/host/small_pool.hpp"
#include "cuda_zstd/host/span_pool.hpp"
#include "manual_backend.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <unordered_map>
#include <vector>

namespace cuda_zstd::detail {
namespace {

constexpr unsigned stream_count = 3;
constexpr std::size_t pool_bytes = std::size_t{24} << 20;

struct Held {
    std::byte* ptr = nullptr;
    std::size_t bytes = 0;
    Slab* slab = nullptr;
    Block* block = nullptr;
    std::uint64_t stream_id = 0;
    Dependencies since_allocation;
};

/// The last work of each stream that may touch a granule.
using LastUse = std::array<std::uint64_t, stream_count + 1>;

class PoolsModel {
public:
    PoolsModel(Strategy strategy, unsigned seed)
        : random_(seed), source_(std::make_shared<FaultySource>(make_ordinary_source(), nullptr)),
          large_(options(strategy), order_, source_), medium_(strategy, order_, large_),
          small_(std::size_t{64} << 10, order_, medium_) {}

    void run(unsigned steps) {
        for (unsigned step = 0; step < steps; ++step) {
            SCOPED_TRACE("step " + std::to_string(step));
            const std::uint64_t id = 1 + random_() % stream_count;
            switch (random_() % 10) {
            case 0:
            case 1:
            case 2:
            case 3:
                allocate(id);
                break;
            case 4:
            case 5:
            case 6:
                free(id);
                break;
            case 7:
                backend_.advance(id, backend_.completed(id) + random_() % 4);
                break;
            case 8:
                backend_.submit(id);
                break;
            default:
                if (step % 100 == 99) trim();
            }
            if (testing::Test::HasFatalFailure()) return;
            if (step % 97 == 0) check();
        }
        while (!held_.empty())
            free(1);
        backend_.synchronize();
        trim();
        check();
        EXPECT_EQ(large_.figures().capacity_bytes, 0u) << "with no live block, trim gives everything back";
        EXPECT_EQ(source_->mapped_bytes(), 0u);
    }

    unsigned cross_stream_waits() const { return waited_; }
    std::uint64_t closings() const { return order_.closings(); }

private:
    static PoolOptions options(Strategy strategy) {
        PoolOptions made;
        made.strategy = strategy;
        made.max_bytes = pool_bytes;
        return made;
    }

    std::size_t random_bytes() {
        switch (random_() % 3) {
        case 0:
            return 1 + random_() % ((64u << 10) - 1);
        case 1:
            return (64u << 10) + random_() % (960u << 10);
        default:
            return (1u << 20) + 1 + random_() % (5u << 20);
        }
    }

    void allocate(std::uint64_t id) {
        const std::size_t bytes = random_bytes();
        const auto effort = static_cast<Effort>(random_() % 4);
        const std::size_t alignment = random_() % 8 == 0 ? std::size_t{256} << (random_() % 10) : granule_bytes;
        Held held;
        Dependencies dependencies;
        if (bytes < (64u << 10) && alignment == granule_bytes) {
            TakenSlot taken = small_.take(bytes, {ManualBackend::handle(id), id}, effort);
            if (taken.slab == nullptr) return;
            held = {taken.ptr, taken.slab->size_class->slot_bytes, taken.slab, nullptr, id, {}};
            dependencies = std::move(taken.dependencies);
        } else {
            BlockPool& pool = bytes <= (1u << 20) ? static_cast<BlockPool&>(medium_) : large_;
            Taken taken = pool.take(round_up(bytes, granule_bytes), alignment, id, effort);
            if (!taken) return;
            held = {taken.block->ptr, taken.block->bytes, nullptr, taken.block, id, {}};
            dependencies = std::move(taken.dependencies);
        }
        ASSERT_GE(held.bytes, bytes);
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(held.ptr) % alignment, 0u);
        // What is done when the stream's next work begins: its own work, what that waited for, and the dependencies.
        LastUse covered{};
        order_.wait_on_device({ManualBackend::handle(id), id}, dependencies);
        dependencies.for_each([&](const TicketRef& ticket) {
            waited_ += ticket->stream_id != id;
            if (ticket->state == Ticket::State::recorded)
                backend_.close_over(covered, ticket->stream_id, ManualBackend::covered(ticket->event));
            else
                ASSERT_TRUE(ticket->stream_id == id || ticket->state == Ticket::State::complete);
        });
        backend_.close_over(covered, id, backend_.submitted(id));
        for (std::byte* at = held.ptr; at != held.ptr + held.bytes; at += granule_bytes) {
            ASSERT_TRUE(live_.insert({at, {}}).second) << "memory that is live is handed out";
            const auto used = last_use_.find(at);
            if (used == last_use_.end()) continue;
            for (std::uint64_t other = 1; other <= stream_count; ++other) {
                const bool safe =
                    used->second[other] <= backend_.completed(other) || used->second[other] <= covered[other];
                ASSERT_TRUE(safe) << "stream " << id << " gets memory that work " << used->second[other]
                                  << " of stream " << other << " may still use; done are " << backend_.completed(other)
                                  << ", waited for " << covered[other];
            }
        }
        held.since_allocation = std::move(dependencies);
        held_.push_back(std::move(held));
    }

    void free(std::uint64_t id) {
        if (held_.empty()) return;
        const std::size_t at = random_() % held_.size();
        const Held held = held_[at];
        held_[at] = held_.back();
        held_.pop_back();
        // On its own stream as a rule, so that blocks are used again there.
        if (random_() % 3 != 0) id = held.stream_id;
        const std::uint64_t last = backend_.submit(id);
        for (std::byte* granule = held.ptr; granule != held.ptr + held.bytes; granule += granule_bytes) {
            live_.erase(granule);
            last_use_[granule][id] = last;
        }
        const StreamRef stream{ManualBackend::handle(id), id};
        if (held.slab != nullptr)
            small_.give(
                held.ptr, *held.slab,
                Dependencies(order_.freed_on_as_one(stream, held.bytes, held.stream_id, held.since_allocation)));
        else
            pool_of(*held.block)
                .give(*held.block, order_.freed_on(stream, held.bytes, held.stream_id, held.since_allocation));
    }

    void trim() {
        small_.wait_on_host();
        small_.flush();
        medium_.wait_on_host();
        medium_.flush();
        large_.wait_on_host();
        large_.trim(random_() % 2 == 0 && !held_.empty() ? pool_bytes / 2 : 0);
        if (held_.empty()) large_.trim(0);
    }

    void check() {
        ASSERT_EQ(small_.check(), "");
        ASSERT_EQ(medium_.check(), "");
        ASSERT_EQ(large_.check(), "");
    }

    std::mt19937_64 random_;
    ManualBackend backend_{stream_count};
    StreamOrder order_{backend_};
    std::shared_ptr<FaultySource> source_;
    ArenaPool large_;
    SpanPool medium_;
    SmallPool small_;
    std::vector<Held> held_;
    std::unordered_map<std::byte*, std::nullptr_t> live_;
    std::unordered_map<std::byte*, LastUse> last_use_;
    unsigned waited_ = 0;
};

class PoolsTest : public testing::TestWithParam<Strategy> {};

TEST_P(PoolsTest, NoStreamGetsMemoryThatAnotherMayStillUse) {
    unsigned waited = 0;
    std::uint64_t closings = 0;
    for (unsigned seed = 1; seed <= 6; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        PoolsModel model(GetParam(), seed);
        model.run(1500);
        if (HasFatalFailure()) return;
        waited += model.cross_stream_waits();
        closings += model.closings();
    }
    EXPECT_GT(closings, 8u) << "and to the point where tickets are still open";
    EXPECT_GT(waited, 50u) << "the programs must come to the point where one stream takes another's memory";
}

INSTANTIATE_TEST_SUITE_P(Strategies, PoolsTest,
                         testing::Values(Strategy::best_fit, Strategy::first_fit, Strategy::segregated),
                         [](const auto& tested) {
                             std::string name = to_string(tested.param);
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

TEST(SmallPool, ClassesWasteAtMostAQuarterAboveAKibibyte) {
    std::size_t previous = 0;
    for (std::size_t bytes = 1; bytes < (64u << 10); ++bytes) {
        const std::size_t slot_bytes = SmallPool::slot_bytes(bytes);
        ASSERT_GE(slot_bytes, bytes);
        ASSERT_EQ(slot_bytes % granule_bytes, 0u);
        ASSERT_GE(slot_bytes, previous);
        if (bytes > 1024) {
            ASSERT_LE(slot_bytes * 4, bytes * 5 + 4);
        }
        previous = slot_bytes;
    }
}

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

} // namespace
} // namespace cuda_zstd::detail
