// SPDX-License-Identifier: MIT
// The device heap on real threads: eight of them allocate and free any sizes, stamp what they own, and look at the
// stamps before they give it back. Under ThreadSanitizer the stamps, plain memory, are what a missing order shows on.
#include "../test_seed.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace cuda_zstd;

constexpr unsigned thread_count = 8;

struct Freer {
    void operator()(void* memory) const { std::free(memory); }
};

struct Arena {
    explicit Arena(std::size_t bytes, unsigned processors) {
        memory.reset(std::aligned_alloc(page_bytes, bytes));
        layout = HeapLayout::for_arena(bytes, processors);
        std::memset(memory.get(), 0, layout.metadata_bytes);
        solo_env env;
        format_heap(env, memory.get(), layout, 0, 1);
        heap = Heap<solo_env>::over(memory.get(), layout);
    }
    std::unique_ptr<void, Freer> memory;
    HeapLayout layout;
    Heap<solo_env> heap;
};

struct Block {
    std::uint64_t* words = nullptr;
    std::size_t bytes = 0;
    std::uint64_t stamp = 0;
};

/// Stamps the first words, the last word and one in each 4 KiB: enough to see an overlap with any other block.
template <class Visit>
void for_stamped_words(const Block& block, Visit visit) {
    const std::size_t words = block.bytes / sizeof(std::uint64_t);
    visit(block.words[0]);
    for (std::size_t word = 512; word + 1 < words; word += 512)
        visit(block.words[word]);
    if (words > 1) visit(block.words[words - 1]);
}

/// Blocks that one thread leaves for any other to free.
class Exchange {
public:
    /// Leaves `given` and takes one that was left before, if there is one and `given` cannot be kept.
    Block swap(Block given, std::size_t place) {
        const std::lock_guard lock(mutex_);
        Block taken = places_[place % places_.size()];
        places_[place % places_.size()] = given;
        return taken;
    }

private:
    std::mutex mutex_;
    std::vector<Block> places_ = std::vector<Block>(16);
};

struct Outcome {
    std::uint64_t allocations = 0;
    std::uint64_t full = 0;
    std::uint64_t contended = 0;
    std::uint64_t wrong_stamps = 0;
    std::uint64_t bad_frees = 0;
};

void free_checked(solo_env& env, const Heap<solo_env>& heap, const Block& block, Outcome& outcome) {
    if (block.words == nullptr) return;
    for_stamped_words(block, [&](const std::uint64_t& word) { outcome.wrong_stamps += word != block.stamp; });
    outcome.bad_frees += heap.deallocate(env, 1, block.words) != Status::ok;
}

Outcome run_thread(const Heap<solo_env>& heap, Exchange& exchange, unsigned thread, unsigned rounds,
                   const std::vector<std::size_t>& sizes) {
    solo_env env(thread % 4);
    std::mt19937_64 random(test_seed(thread + 1));
    std::vector<Block> held;
    Outcome outcome;
    for (unsigned round = 0; round < rounds; ++round) {
        if (held.size() < 24 && random() % 5 < 3) {
            std::size_t bytes = sizes[random() % sizes.size()];
            if (random() % 2 == 0) bytes = 8 + random() % bytes;
            Status status = Status::ok;
            void* const memory = heap.allocate(env, 1, bytes, 16, status);
            ++outcome.allocations;
            if (memory == nullptr) {
                outcome.full += status == Status::full;
                outcome.contended += status == Status::contended;
                continue;
            }
            const Block block{static_cast<std::uint64_t*>(memory), bytes, random()};
            for_stamped_words(block, [&](std::uint64_t& word) { word = block.stamp; });
            held.push_back(block);
        } else if (!held.empty()) {
            std::swap(held[random() % held.size()], held.back());
            Block block = held.back();
            held.pop_back();
            if (random() % 4 == 0) block = exchange.swap(block, random());
            free_checked(env, heap, block, outcome);
        }
    }
    for (const Block& block : held)
        free_checked(env, heap, block, outcome);
    return outcome;
}

void stress(std::size_t arena_bytes, unsigned rounds, const std::vector<std::size_t>& sizes) {
    Arena arena(arena_bytes, 4);
    ASSERT_GT(arena.layout.page_count, 0u);
    Exchange exchange;
    std::vector<Outcome> outcomes(thread_count);
    {
        std::vector<std::jthread> threads;
        for (unsigned thread = 0; thread < thread_count; ++thread)
            threads.emplace_back(
                [&, thread] { outcomes[thread] = run_thread(arena.heap, exchange, thread, rounds, sizes); });
    }
    solo_env env;
    Outcome sum;
    for (std::size_t place = 0; place < 16; ++place)
        free_checked(env, arena.heap, exchange.swap({}, place), sum);
    for (const Outcome& outcome : outcomes) {
        sum.allocations += outcome.allocations;
        sum.full += outcome.full;
        sum.contended += outcome.contended;
        sum.wrong_stamps += outcome.wrong_stamps;
        sum.bad_frees += outcome.bad_frees;
    }
    EXPECT_EQ(sum.wrong_stamps, 0u);
    EXPECT_EQ(sum.bad_frees, 0u);
    EXPECT_GT(sum.allocations, sum.full + sum.contended);
    while (arena.heap.supply().reclaim(env)) {
    }
    EXPECT_EQ(env.load(arena.heap.control(ControlCell::free_pages), Order::relaxed), arena.layout.page_count);
    Status status = Status::ok;
    EXPECT_NE(arena.heap.allocate(env, 1, arena.layout.payload_bytes(), 16, status), nullptr)
        << "all was freed, and the heap is not one run";
    std::printf("%llu allocations, %llu full, %llu contended\n", static_cast<unsigned long long>(sum.allocations),
                static_cast<unsigned long long>(sum.full), static_cast<unsigned long long>(sum.contended));
}

TEST(HeapThreads, RoomForAll) { stress(std::size_t{64} << 20, 60'000, {16, 64, 200, 1024, 8192, 32768, 100'000}); }
TEST(HeapThreads, NearlyAlwaysFull) { stress(std::size_t{1} << 20, 60'000, {64, 8192, 32768, 65536, 131072}); }
TEST(HeapThreads, OneClassFromHandToHand) { stress(std::size_t{3} << 20, 60'000, {32768}); }
TEST(HeapThreads, RunsOfPages) { stress(std::size_t{4} << 20, 30'000, {65536, 131072, 524288}); }

} // namespace
