// SPDX-License-Identifier: MIT
// The three strategies against a map that is searched from end to end.
#include "../test_seed.hpp"
#include "cuda_zstd/host/free_block_index.hpp"
#include "strategies.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

namespace cuda_zstd::detail {
namespace {

class FreeBlockIndexTest : public testing::TestWithParam<Strategy> {};

std::byte* address(std::size_t granule) { return reinterpret_cast<std::byte*>((granule + 1) * granule_bytes); }

/// What the strategy promises, found the slow way; null where any block that fits will do.
Block* expected(Strategy strategy, const std::vector<Block*>& blocks, std::size_t bytes) {
    Block* best = nullptr;
    for (Block* block : blocks) {
        if (block->bytes < bytes) continue;
        const bool better = best == nullptr || (strategy == Strategy::first_fit ? block->ptr < best->ptr
                                                : block->bytes != best->bytes   ? block->bytes < best->bytes
                                                                                : block->ptr < best->ptr);
        if (better) best = block;
    }
    return best;
}

TEST_P(FreeBlockIndexTest, AgreesWithTheModel) {
    for (unsigned seed = 1; seed <= 4; ++seed) {
        std::mt19937_64 random(test_seed(seed));
        std::deque<Block> storage;
        std::vector<Block*> inside;
        const auto index = FreeBlockIndex::make(GetParam());
        for (unsigned step = 0; step < 5000; ++step) {
            if (inside.empty() || random() % 100 < 55) {
                Block& block = storage.emplace_back();
                block.ptr = address(storage.size() * 7919 % 1000003);
                // Few sizes often, so that ties occur; large ones now and then.
                block.bytes = granule_bytes * (random() % 4 == 0 ? 1 + random() % (1u << 20) : 1 + random() % 40);
                index->prepare(block.bytes, 1);
                index->insert(block);
                inside.push_back(&block);
            } else {
                const std::size_t at = random() % inside.size();
                index->erase(*inside[at]);
                inside.erase(inside.begin() + static_cast<std::ptrdiff_t>(at));
            }
            const std::size_t bytes = granule_bytes * (1 + random() % (random() % 2 == 0 ? 50u : 1u << 20));
            Block* const found = index->search(bytes, granule_bytes);
            Block* const wanted = expected(GetParam(), inside, bytes);
            ASSERT_EQ(found == nullptr, wanted == nullptr) << "seed " << seed << " step " << step;
            if (found == nullptr) continue;
            ASSERT_GE(found->bytes, bytes);
            ASSERT_NE(std::find(inside.begin(), inside.end(), found), inside.end());
            if (GetParam() == Strategy::first_fit) {
                ASSERT_EQ(found, wanted) << "seed " << seed << " step " << step;
            }
            if (GetParam() == Strategy::best_fit) {
                ASSERT_EQ(found->bytes, wanted->bytes) << "seed " << seed << " step " << step;
            }
            if (step % 500 == 0) {
                ASSERT_EQ(index->check(), "");
                std::size_t largest = 0;
                for (const Block* block : inside)
                    largest = std::max(largest, block->bytes);
                ASSERT_EQ(index->largest_bytes(), largest);
            }
        }
        for (Block* block : inside)
            index->erase(*block);
        EXPECT_EQ(index->search(granule_bytes, granule_bytes), nullptr);
        EXPECT_EQ(index->largest_bytes(), 0u);
        EXPECT_EQ(index->check(), "");
    }
}

/// The segregated strategy may take a larger block than best fit, but not from a class above the next one that fits.
TEST(FreeBlockIndex, SegregatedTakesTheNextClassThatFits) {
    const auto index = FreeBlockIndex::make(Strategy::segregated);
    std::deque<Block> storage;
    for (const std::size_t granules : {100u, 104u, 160u, 1000u}) {
        Block& block = storage.emplace_back();
        block.ptr = address(storage.size() * 5000);
        block.bytes = granules * granule_bytes;
        index->prepare(block.bytes, 1);
        index->insert(block);
    }
    EXPECT_EQ(index->find(100 * granule_bytes, granule_bytes)->bytes, 100 * granule_bytes);
    EXPECT_EQ(index->find(105 * granule_bytes, granule_bytes)->bytes, 160 * granule_bytes);
    EXPECT_EQ(index->find(161 * granule_bytes, granule_bytes)->bytes, 1000 * granule_bytes);
    EXPECT_EQ(index->find(1000 * granule_bytes, granule_bytes)->bytes, 1000 * granule_bytes);
    EXPECT_EQ(index->find(1001 * granule_bytes, granule_bytes), nullptr);
    for (Block& block : storage)
        index->erase(block);
}

INSTANTIATE_TEST_SUITE_P(Strategies, FreeBlockIndexTest, every_strategy(), name_of_strategy);

} // namespace
} // namespace cuda_zstd::detail
