// SPDX-License-Identifier: MIT
// What is for a whole thread block, and the vector of a whole grid, on real threads: several blocks of several threads
// each, on one heap. What it is for is ThreadSanitizer: the pieces are plain memory, so a missing order or two owners
// show.
#include "cuda_zstd/device/block_allocate.hpp"
#include "cuda_zstd/device/block_scratch_frame.hpp"
#include "cuda_zstd/device/pool_vector_ref.hpp"
#include "cuda_zstd/device/scratch_frame.hpp"
#include "cuda_zstd/heap/format.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace cuda_zstd;

/// A thread block whose threads are those of the machine.
class threads_block {
public:
    using Env = solo_env;
    using Cell = Env::atom<std::uint32_t>;

    threads_block(std::barrier<>& barrier, unsigned thread, unsigned threads)
        : barrier_(barrier), thread_(thread), threads_(threads), env_(thread % 4) {}

    Env& env() { return env_; }
    unsigned thread() const { return thread_; }
    unsigned threads() const { return threads_; }
    void sync() { barrier_.arrive_and_wait(); }
    std::uint32_t load(const Cell& cell) const { return env_.load(cell, Order::relaxed); }
    void store(Cell& cell, std::uint32_t value) const { env_.store(cell, value, Order::relaxed); }
    std::uint32_t fetch_add(Cell& cell, std::uint32_t value) const {
        return env_.fetch_add(cell, value, Order::relaxed);
    }

private:
    std::barrier<>& barrier_;
    unsigned thread_;
    unsigned threads_;
    Env env_;
};
static_assert(BlockScope<threads_block> && BlockScope<solo_block>);

struct Freer {
    void operator()(void* memory) const { std::free(memory); }
};

class BlockThreads : public ::testing::Test {
protected:
    static constexpr unsigned blocks = 2;
    static constexpr unsigned threads = 4;

    void make_heap(std::size_t bytes) {
        memory_.reset(std::aligned_alloc(page_bytes, bytes));
        layout_ = HeapLayout::for_arena(bytes, 4);
        std::memset(memory_.get(), 0, layout_.metadata_bytes);
        solo_env env;
        format_heap(env, memory_.get(), layout_, 0, 1);
        pool_ = BasicPoolRef<solo_env>(Heap<solo_env>::over(memory_.get(), layout_));
    }
    /// Runs `body(block, index)` in every thread of every block.
    template <class Body>
    void run(const Body& body) {
        std::vector<std::unique_ptr<std::barrier<>>> barriers;
        for (unsigned index = 0; index < blocks; ++index)
            barriers.push_back(std::make_unique<std::barrier<>>(threads));
        std::vector<std::jthread> running;
        for (unsigned thread = 0; thread < blocks * threads; ++thread)
            running.emplace_back([&, thread] {
                threads_block block(*barriers[thread / threads], thread % threads, threads);
                body(block, thread / threads);
            });
    }
    void expect_all_free() {
        solo_env env;
        while (pool_.heap().supply().reclaim(env)) {
        }
        Status status = Status::ok;
        EXPECT_NE(pool_.try_allocate(env, layout_.payload_bytes(), 16, status), nullptr)
            << "all was given back, and the heap is not one run";
    }

    std::unique_ptr<void, Freer> memory_;
    HeapLayout layout_;
    BasicPoolRef<solo_env> pool_;
    std::atomic<unsigned> errors_{0};
};

struct Piece {
    unsigned char* memory;
    std::size_t bytes;
    unsigned char stamp;

    bool holds() const {
        for (std::size_t at = 0; at < bytes; ++at)
            if (memory[at] != stamp) return false;
        return true;
    }
};

TEST_F(BlockThreads, FramesWithinFrames) {
    make_heap(std::size_t{8} << 20);
    BlockScratchStorage<solo_env> storage[blocks];
    run([&](threads_block& block, unsigned index) {
        std::mt19937 random(index * threads + block.thread());
        std::vector<Piece> pieces;
        const auto take = [&](auto& frame, unsigned count) {
            for (unsigned turn = 0; turn < count; ++turn) {
                const std::size_t bytes = random() % 40 == 0 ? 20000 : 1 + random() % 200;
                auto* const memory = static_cast<unsigned char*>(frame.allocate(bytes));
                if (memory == nullptr) {
                    ++errors_;
                    continue;
                }
                const auto stamp = static_cast<unsigned char>(random());
                std::memset(memory, stamp, bytes);
                pieces.push_back({memory, bytes, stamp});
            }
        };
        for (unsigned scope = 0; scope < 30; ++scope) {
            BlockScratchFrame<threads_block> frame(block, pool_, storage[index], 16384);
            take(frame, static_cast<unsigned>(random() % 20));
            for (unsigned inner = 0; inner < 3; ++inner) {
                const ScratchScope within(frame);
                const std::size_t kept = pieces.size();
                take(frame, static_cast<unsigned>(random() % 40));
                for (const Piece& piece : pieces)
                    errors_ += !piece.holds();
                pieces.resize(kept);
            }
            for (const Piece& piece : pieces)
                errors_ += !piece.holds();
            pieces.clear();
        }
    });
    EXPECT_EQ(errors_.load(), 0u);
    expect_all_free();
}

TEST_F(BlockThreads, TheRestOfARegionServesSmallerPieces) {
    make_heap(std::size_t{4} << 20);
    BlockScratchStorage<solo_env> storage[blocks];
    run([&](threads_block& block, unsigned index) {
        BlockScratchFrame<threads_block> frame(block, pool_, storage[index], 1024);
        if (block.thread() == 0) {
            auto* const first = static_cast<char*>(frame.allocate(1000));
            auto* const beyond = static_cast<char*>(frame.allocate(64));
            auto* const last = static_cast<char*>(frame.allocate(16));
            errors_ += first == nullptr || beyond == nullptr || last != first + 1008;
            errors_ += frame.pieces_from_pool() != 1;
        }
        frame.release();
        if (block.thread() == 1) errors_ += frame.allocate(1024) == nullptr || frame.pieces_from_pool() != 1;
    });
    EXPECT_EQ(errors_.load(), 0u);
    expect_all_free();
}

TEST_F(BlockThreads, AFrameOfAFullHeapSaysSo) {
    make_heap(std::size_t{4} << 20);
    solo_env env;
    void* const all = pool_.allocate(env, layout_.payload_bytes());
    ASSERT_NE(all, nullptr);
    BlockScratchStorage<solo_env> storage[blocks];
    run([&](threads_block& block, unsigned index) {
        BlockScratchFrame<threads_block> frame(block, pool_, storage[index], 4096);
        errors_ += frame.region_bytes() != 0 || frame.allocate(16) != nullptr;
    });
    EXPECT_EQ(errors_.load(), 0u);
    pool_.deallocate(env, all);
    expect_all_free();
}

TEST_F(BlockThreads, AllAppendToOneVectorUntilTheHeapIsFull) {
    make_heap(std::size_t{2} << 20);
    using Vector = BasicPoolVectorRef<std::uint64_t, solo_env, 16>;
    PoolVectorState<solo_env> state{};
    state.arena = memory_.get();
    state.layout = layout_;
    const Vector vector(&state);
    solo_env env;
    for (unsigned round = 0; round < 3; ++round) {
        std::vector<std::uint64_t> appended(blocks * threads);
        run([&](threads_block& block, unsigned index) {
            const unsigned me = index * threads + block.thread();
            std::uint64_t& mine = appended[me];
            std::uint64_t values[64];
            for (unsigned turn = 0; turn < 2500; ++turn) {
                const std::uint64_t next = std::uint64_t{me} << 32 | mine;
                if (turn % 3 != 0) {
                    mine += vector.push_back(block.env(), next);
                } else {
                    for (unsigned at = 0; at < 64; ++at)
                        values[at] = next + at;
                    mine += vector.append(block.env(), values, turn % 65);
                }
                // Blocks of others come and go beside the segments.
                pool_.deallocate(block.env(), pool_.allocate(block.env(), 1000));
            }
        });
        std::uint64_t sum = 0;
        for (const std::uint64_t count : appended)
            sum += count;
        ASSERT_EQ(vector.size(env), sum);
        EXPECT_GT(vector.refused(env), 0u) << "there is no memory for all";
        std::vector<std::uint64_t> seen(blocks * threads);
        for (std::uint64_t index = 0; index < sum; ++index) {
            const std::uint64_t value = *vector.at(env, index);
            ASSERT_LT(value >> 32, seen.size());
            ASSERT_EQ(static_cast<std::uint32_t>(value), seen[value >> 32]++);
        }
        ASSERT_EQ(seen, appended);
        vector.clear(env);
    }
    expect_all_free();
}

TEST_F(BlockThreads, BlocksForAllAndManyAtOnce) {
    make_heap(std::size_t{8} << 20);
    BlockBoard<solo_env> boards[blocks];
    constexpr std::uint32_t count = 50;
    std::vector<void*> places(blocks * count);
    run([&](threads_block& block, unsigned index) {
        void** const mine = places.data() + index * count;
        for (unsigned turn = 0; turn < 30; ++turn) {
            Status status = Status::ok;
            auto* const shared = static_cast<unsigned*>(block_allocate(block, pool_, boards[index], 64, 16, status));
            const std::uint32_t got = block_allocate_many(block, pool_, boards[index], 100 * (turn + 1), 16, count,
                                                          mine, Shortfall::keep, status);
            if (shared == nullptr || got != count || status != Status::ok) {
                ++errors_;
                return; // all threads of the block see the same
            }
            shared[block.thread()] = turn;
            for (std::uint32_t at = block.thread(); at < count; at += threads)
                *static_cast<unsigned*>(mine[at]) = at + turn;
            block.sync();
            for (std::uint32_t at = 0; at < count; ++at)
                errors_ += *static_cast<unsigned*>(mine[at]) != at + turn;
            for (unsigned other = 0; other < threads; ++other)
                errors_ += shared[other] != turn;
            block_deallocate_many(block, pool_, count, mine);
            block_deallocate(block, pool_, shared);
        }
    });
    EXPECT_EQ(errors_.load(), 0u);
    expect_all_free();
}

} // namespace
