// SPDX-License-Identifier: MIT
// A process without memory for the pool's own records: each allocation of the heap fails once, at every place.
//
// Invariant: this program's operator new counts down, in the thread that asked for it, to the one that fails.
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "manual_backend.hpp"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <random>
#include <vector>

namespace {

thread_local long allocations_left = -1; // till one fails; below 0: none does

void* allocate_or_fail(std::size_t bytes, std::size_t alignment) {
    if (allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
    void* const memory = std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

} // namespace

void* operator new(std::size_t bytes) { return allocate_or_fail(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return allocate_or_fail(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace cuda_zstd {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

class FailingNew : public testing::Test {
protected:
    ~FailingNew() override {
        backend_.destroy_stream(one_);
        backend_.destroy_stream(other_);
    }
    static PoolOptions options() {
        PoolOptions options;
        options.backend = BackendKind::host;
        options.max_bytes = 64 * MiB;
        options.diagnostics = nullptr;
        return options;
    }
    /// Whether the call ended without an exception, when its allocation number `nth` fails.
    template <class Call>
    static bool survives(long nth, const Call& call) {
        allocations_left = nth;
        try {
            call();
        } catch (const std::bad_alloc&) {
            allocations_left = -1;
            return false;
        }
        allocations_left = -1;
        return true;
    }

    Backend& backend_ = Backend::get(BackendKind::host);
    cudaStream_t one_ = backend_.create_stream();
    cudaStream_t other_ = backend_.create_stream();
};

TEST_F(FailingNew, AFreeHappensOrHasNotHappened) {
    for (const std::size_t bytes : {std::size_t{1000}, std::size_t{100'000}, 3 * MiB}) {
        for (long nth = 0; nth < 24; ++nth) {
            SCOPED_TRACE(std::to_string(bytes) + " B, allocation " + std::to_string(nth));
            MemoryPoolManager pool(options());
            std::vector<void*> blocks;
            for (int i = 0; i < 3; ++i)
                blocks.push_back(pool.allocate(bytes, one_));
            const bool freed = survives(nth, [&] { pool.deallocate(blocks[0], other_); });
            EXPECT_EQ(pool.statistics().live_blocks, freed ? 2u : 3u);
            if (freed)
                EXPECT_THROW(pool.deallocate(blocks[0], other_), usage_error);
            else
                pool.deallocate(blocks[0], other_);
            EXPECT_EQ(pool.statistics().live_blocks, 2u);
            pool.deallocate(blocks[1], one_);
            pool.deallocate(blocks[2], one_);
            pool.trim();
            EXPECT_EQ(pool.statistics().capacity_bytes, 0u) << "something is not free";
            EXPECT_EQ(PoolInspector::check(pool), "");
        }
    }
}

TEST_F(FailingNew, NothingIsLostInManyCalls) {
    for (const unsigned seed : {1u, 2u, 3u, 4u, 5u}) {
        SCOPED_TRACE(seed);
        std::mt19937 random(seed);
        MemoryPoolManager pool(options());
        std::vector<void*> live;
        std::size_t failures = 0;
        for (int call = 0; call < 6000; ++call) {
            const cudaStream_t stream = random() % 4 == 0 ? other_ : one_;
            const long nth = random() % 3 == 0 ? static_cast<long>(random() % 12) : -1;
            if (live.size() < 200 && random() % 2 == 0) {
                const std::size_t bytes = random() % 8 == 0 ? 50'000 + random() % 300'000 : 1 + random() % 5000;
                void* block = nullptr;
                live.reserve(live.size() + 1);
                failures += !survives(nth, [&] { block = pool.allocate(bytes, stream); });
                if (block != nullptr) live.push_back(block);
            } else if (!live.empty()) {
                std::swap(live[random() % live.size()], live.back());
                if (survives(nth, [&] { pool.deallocate(live.back(), stream); }))
                    live.pop_back();
                else
                    ++failures;
            }
            ASSERT_EQ(pool.statistics().live_blocks, live.size()) << "call " << call;
        }
        EXPECT_GT(failures, 30u) << "too few calls failed to show anything";
        for (void* block : live)
            pool.deallocate(block, one_);
        pool.trim();
        pool.trim();
        EXPECT_EQ(pool.statistics().live_blocks, 0u);
        EXPECT_EQ(pool.statistics().capacity_bytes, 0u) << "something is not free";
        EXPECT_EQ(PoolInspector::check(pool), "");
    }
}

/// Tickets of streams whose work goes on only when the test says so.
class FailingTickets : public FailingNew {
protected:
    detail::TicketRef recorded(std::uint64_t stream) {
        manual_.submit(stream);
        return order_.record({detail::ManualBackend::handle(stream), stream});
    }
    detail::ManualBackend manual_{3};
    detail::StreamOrder order_{manual_};
};

TEST_F(FailingTickets, ATicketIsDroppedOnlyForOneThatIsThere) {
    for (const std::uint64_t tickets : {1u, 2u, 3u})
        for (long nth = 0; nth < 4; ++nth) {
            SCOPED_TRACE(std::to_string(tickets) + " tickets, allocation " + std::to_string(nth));
            detail::Dependencies present;
            std::vector<std::uint64_t> first;
            for (std::uint64_t stream = 1; stream <= tickets; ++stream) {
                present.add(recorded(stream));
                first.push_back(manual_.submitted(stream));
            }
            const detail::TicketRef later = recorded(1);
            const bool is_added = survives(nth, [&] { present.add(later); });
            // Whatever there is now covers each stream's work.
            std::vector<bool> covered(tickets);
            present.for_each([&](const detail::TicketRef& ticket) {
                const std::uint64_t wanted =
                    ticket->stream_id == 1 && is_added ? manual_.submitted(1) : first.at(ticket->stream_id - 1);
                covered.at(ticket->stream_id - 1) = detail::ManualBackend::covered(ticket->event) >= wanted;
            });
            EXPECT_EQ(covered, std::vector<bool>(tickets, true));
            manual_.synchronize();
            EXPECT_TRUE(order_.settle(present)) << "none is left";
        }
}

TEST_F(FailingTickets, AnOpenTicketIsClosedOrStaysWhereItWas) {
    for (long nth = 0; nth < 4; ++nth) {
        SCOPED_TRACE("allocation " + std::to_string(nth));
        (void)recorded(1); // leaves a ticket with an event of the past
        manual_.submit(1);
        const detail::Dependencies pending(order_.leave_open(1, 100));
        (void)survives(nth, [&] { (void)order_.close_all(); });
        order_.wait_on_device({detail::ManualBackend::handle(2), 2}, pending);
        std::vector<std::uint64_t> done(4);
        manual_.close_over(done, 2, manual_.submitted(2));
        EXPECT_EQ(std::max(done[1], manual_.completed(1)), manual_.submitted(1)) << "stream 2 goes ahead of stream 1";
    }
}

} // namespace
} // namespace cuda_zstd
