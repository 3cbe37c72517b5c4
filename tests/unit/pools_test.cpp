// SPDX-License-Identifier: MIT
// The three pools on streams that go on at random, against a model that knows for each granule of memory which work
// of which stream may still touch it.
#include "../test_seed.hpp"
#include "cuda_zstd/host/arena.hpp"
#include "cuda_zstd/host/small_pool.hpp"
#include "cuda_zstd/host/span_pool.hpp"
#include "manual_backend.hpp"
#include "strategies.hpp"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <tuple>
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
    PoolsModel(Strategy strategy, Growth growth, std::uint64_t seed)
        : random_(seed), source_(std::make_shared<FaultySource>(make_ordinary_source(), nullptr)),
          large_(options(strategy, growth), order_, source_), medium_(strategy, order_, large_),
          medium_blocks_(growth == Growth::exact ? static_cast<BlockPool&>(large_) : medium_),
          small_(std::size_t{64} << 10, order_, medium_blocks_, slabs_,
                 growth == Growth::exact ? SlabSize::smallest : SlabSize::usual) {}

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
    static PoolOptions options(Strategy strategy, Growth growth) {
        PoolOptions made;
        made.strategy = strategy;
        made.growth = growth;
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
            BlockPool& pool = bytes <= (1u << 20) ? medium_blocks_ : large_;
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
        if (held.slab != nullptr) {
            const GivenSlot slot{held.ptr, held.slab};
            ASSERT_EQ(small_.give({&slot, 1},
                                  order_.freed_on_as_one(stream, held.bytes, held.stream_id, held.since_allocation)),
                      1u);
        } else
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
    BlockPool& medium_blocks_;
    SlabMap slabs_;
    SmallPool small_;
    std::vector<Held> held_;
    std::unordered_map<std::byte*, std::nullptr_t> live_;
    std::unordered_map<std::byte*, LastUse> last_use_;
    unsigned waited_ = 0;
};

class PoolsTest : public testing::TestWithParam<std::tuple<Strategy, Growth>> {};

TEST_P(PoolsTest, NoStreamGetsMemoryThatAnotherMayStillUse) {
    unsigned waited = 0;
    std::uint64_t closings = 0;
    for (unsigned seed = 1; seed <= 6; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        PoolsModel model(std::get<Strategy>(GetParam()), std::get<Growth>(GetParam()), test_seed(seed));
        model.run(1500);
        if (HasFatalFailure()) return;
        waited += model.cross_stream_waits();
        closings += model.closings();
    }
    EXPECT_GT(closings, 8u) << "and to the point where tickets are still open";
    EXPECT_GT(waited, 50u) << "the programs must come to the point where one stream takes another's memory";
}

INSTANTIATE_TEST_SUITE_P(Strategies, PoolsTest,
                         testing::Combine(every_strategy(), testing::Values(Growth::geometric, Growth::exact)),
                         [](const auto& tested) {
                             return name_of(std::get<Strategy>(tested.param)) +
                                    (std::get<Growth>(tested.param) == Growth::exact ? "_exact" : "");
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

} // namespace
} // namespace cuda_zstd::detail
