// SPDX-License-Identifier: MIT
// That a soak sees what it looks for: two owners of the same bytes.
#include "tests/soak/blocks.hpp"
#include "tests/soak/soak.hpp"

#include <gtest/gtest.h>

#include <algorithm>
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

TEST_F(Blocks, HoldTheMarksOfTheirOwner) {
    for (std::uint32_t bytes = 1; bytes <= 4096; bytes += bytes < 300 ? 1 : 37) {
        const Block block = at(bytes % 7 * 16, marks_ticket_of(1, bytes, 0), bytes);
        block.address[bytes] = 0x5a;
        write_marks(block);
        EXPECT_TRUE(verify_marks(block, fault_)) << bytes;
        EXPECT_EQ(block.address[bytes], 0x5a) << "a block of " << bytes << " was written behind its end";
        block.address[bytes - 1] ^= 1;
        EXPECT_FALSE(verify_marks(block, fault_)) << bytes;
        EXPECT_EQ(fault_.bytes, bytes);
        EXPECT_NE(fault_.expected, fault_.seen);
    }
}

TEST_F(Blocks, MarksAreFew) {
    std::uint64_t marks = 0, blocks = 0;
    Random random(1);
    for (unsigned i = 0; i < 20000; ++i, ++blocks) {
        const std::uint32_t bytes = LogSizes{}.pick(static_cast<std::uint32_t>(random.next()));
        const Marks of_block(at(random.below(256) * 16, i, bytes));
        of_block.visit([&](std::uint32_t, const Granule&) { ++marks; });
        of_block.visit_tail([&](std::uint32_t, auto) { ++marks; });
    }
    EXPECT_LT(2 * marks, 20 * blocks) << "written and read, a block";
}

TEST_F(Blocks, MarksShowEveryOverlapThatTheyPromiseTo) {
    Random random(7);
    for (unsigned i = 0; i < 200000; ++i) {
        const std::uint32_t bytes = 16 + LogSizes{}.pick(static_cast<std::uint32_t>(random.next()));
        const Block first = at(8192, marks_ticket_of(1, i, 0), bytes);
        // Behind its beginning, within its whole granules, and with at least a quarter and a granule in common.
        const std::uint32_t offset = random.below(bytes / 16) * 16;
        const std::uint32_t other = 16 + LogSizes{}.pick(static_cast<std::uint32_t>(random.next()));
        const std::uint32_t common = std::min(offset + other, bytes) - offset;
        const std::uint32_t larger = std::max(bytes, other);
        if (offset != 0 && larger > most_bytes_all_over && common < larger / 4 + 32) continue;
        const Block second = at(8192 + offset, marks_ticket_of(1, i, 1), other);
        write_marks(first);
        write_marks(second);
        ASSERT_FALSE(verify_marks(first, fault_)) << bytes << " B, and " << other << " B at " << offset;
        ASSERT_TRUE(verify_marks(second, fault_));
        write_marks(first);
        ASSERT_FALSE(verify_marks(second, fault_)) << bytes << " B, and " << other << " B at " << offset;
    }
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

TEST(LogSizes, ReachFromOneByteTo4KiB) {
    EXPECT_EQ(LogSizes{}.pick(0), 1u);
    EXPECT_EQ(LogSizes{}.pick(0xffffffffu), 4096u);
    EXPECT_EQ((LogSizes{5, 1}.pick(0)), 32u);
    EXPECT_EQ((LogSizes{5, 1}.pick(0xffffffffu)), 64u);
}

TEST(LaunchPlan, FollowsFromItsNumberAndIsCutToWhatIsLeft) {
    Settings settings;
    settings.log2_threads = 18;
    unsigned brisk = 0;
    std::uint64_t pairs = 0;
    for (settings.launches = 0; settings.launches < 320; ++settings.launches) {
        const LaunchPlan plan = LaunchPlan::of(settings);
        EXPECT_EQ(plan.mixture == Mixture::wide, settings.launches % 32 < 4);
        EXPECT_EQ(plan.threads % 32, 0u);
        EXPECT_LE(plan.threads, 1u << 18);
        EXPECT_EQ(LaunchPlan::of(settings).steps, plan.steps);
        if (plan.mixture == Mixture::brisk) {
            ++brisk;
            pairs += plan.about_pairs();
            EXPECT_GE(plan.threads, 200000u);
            const unsigned end = plan.log_sizes.first + plan.log_sizes.count;
            EXPECT_LE(end, plan.log_sizes.count == 12 ? 12u : 11u);
        }
        for (const std::uint64_t left : {1u, 1000u, 50000u, 5000000u}) {
            LaunchPlan part = plan;
            part.cut(left);
            EXPECT_GE(part.threads, 32u);
            EXPECT_LE(part.threads, plan.threads);
            EXPECT_LE(part.steps, plan.steps);
            EXPECT_LE(part.about_pairs(), left + 32 * 16 * 2);
        }
    }
    EXPECT_GT(pairs, brisk * std::uint64_t{30000000});
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
