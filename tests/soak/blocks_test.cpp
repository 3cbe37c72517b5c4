// SPDX-License-Identifier: MIT
// That a soak sees what it looks for: two owners of the same bytes.
#include "tests/soak/blocks.hpp"
#include "tests/soak/soak.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace cuda_zstd::soak {
namespace {

/// Memory with room for two blocks.
class Blocks : public testing::Test {
protected:
    Block at(std::size_t offset, std::uint64_t ticket, std::uint32_t bytes) {
        return {reinterpret_cast<unsigned char*>(memory_.data()) + offset, ticket, bytes};
    }
    std::vector<std::uint64_t> memory_ = std::vector<std::uint64_t>((4u << 20) / 8);
    Fault fault_;
};

TEST_F(Blocks, HoldWhatTheirOwnerWrote) {
    for (const std::uint32_t bytes : {1u, 7u, 8u, 9u, 16u, 100u, 257u, 4096u, 65537u, 2u << 20}) {
        stamp(at(0, bytes, bytes));
        EXPECT_TRUE(verify(at(0, bytes, bytes), fault_)) << bytes;
    }
}

TEST_F(Blocks, OneThatIsHandedOutTwiceIsWrongForItsFirstOwner) {
    for (const std::uint32_t bytes : {1u, 3u, 16u, 1000u, 70000u}) {
        stamp(at(0, 1, bytes));
        stamp(at(0, 2, bytes));
        EXPECT_FALSE(verify(at(0, 1, bytes), fault_)) << bytes;
        EXPECT_EQ(fault_.ticket, 1u);
        EXPECT_EQ(fault_.bytes, bytes);
        EXPECT_TRUE(verify(at(0, 2, bytes), fault_)) << bytes;
    }
}

TEST_F(Blocks, OnesThatOverlapAreWrongForOneOwner) {
    // The second begins inside of the first, at its last slot of 16 B or at its last page.
    for (const auto& [bytes, offset] :
         {std::pair{160u, 144u}, std::pair{32768u, 32752u}, std::pair{1u << 20, 983040u}}) {
        stamp(at(0, 1, bytes));
        stamp(at(offset, 2, bytes));
        EXPECT_FALSE(verify(at(0, 1, bytes), fault_)) << bytes;
        EXPECT_GE(fault_.at, offset);
        stamp(at(0, 1, bytes));
        EXPECT_FALSE(verify(at(offset, 2, bytes), fault_)) << bytes;
    }
}

TEST_F(Blocks, ALargeBlockIsStampedAtLeastEvery32Kibibytes) {
    std::size_t last = 0, words = 0;
    visit_words(4u << 20, [&](std::size_t offset) {
        EXPECT_LE(offset - last, 32768u);
        last = offset;
        ++words;
        return true;
    });
    EXPECT_EQ(last, (4u << 20) - 8);
    EXPECT_LE(words, 16u + 128u + 1u);
}

TEST(Difference, NamesTheFirstFieldThatIsNotAsInANewHeap) {
    HeapReport fresh, now;
    fresh.heap_bytes = now.heap_bytes = 1 << 20;
    now.sequence = 7;
    now.peak_page_bytes = 4096;
    now.failed_allocations = 3;
    EXPECT_EQ(difference(fresh, now), "");
    now.free_slot_bytes = 16;
    EXPECT_EQ(difference(fresh, now), "free_slot_bytes is 16, and 0 in a new heap");
}

TEST(PickBytes, IsWithinItsLimits) {
    Random random(1);
    for (unsigned i = 0; i < 20000; ++i) {
        const unsigned size_class = i % size_class_count;
        const std::uint32_t one = pick_bytes(random, Sizes::one_class, size_class);
        ASSERT_GE(one, 1u);
        ASSERT_EQ(size_class_of(one), size_class);
        for (const Sizes sizes : {Sizes::small, Sizes::mixed, Sizes::large}) {
            const std::uint32_t bytes = pick_bytes(random, sizes, 0);
            ASSERT_GE(bytes, 1u);
            ASSERT_LE(bytes, 2u << 20);
        }
    }
}

} // namespace
} // namespace cuda_zstd::soak
