// SPDX-License-Identifier: MIT
// What a hardened build's audit says of users' blocks: each mistake at its block, with the places in this file.
#include "arena.hpp"

#include "cuda_zstd/device/audit_report.hpp"
#include "cuda_zstd/device/hardened_audit.hpp"
#include "cuda_zstd/device/pool_ref.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace {

using namespace cuda_zstd;
using namespace cuda_zstd::test;

class HardenedAudit : public ::testing::Test {
protected:
    AuditReport audit() {
        AuditReport report;
        LiveTally<solo_env> tally{};
        audit_blocks(env_, pool_.heap(), tally, report.faults, 0, 1);
        conclude_blocks(env_, pool_.heap(), tally, report.faults);
        return report;
    }
    /// The line about a block.
    static std::string line_of(const std::string& text, const void* block) {
        char address[32];
        std::snprintf(address, sizeof address, "block %#llx",
                      static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(block)));
        const auto at = text.find(address);
        return at == std::string::npos ? "" : text.substr(at, text.find('\n', at) - at);
    }
    static std::string here(std::uint32_t line) { return "hardened_audit_test.cpp:" + std::to_string(line); }

    Arena arena_{std::size_t{4} << 20};
    solo_env env_;
    BasicPoolRef<solo_env> pool_{HardenedHeap<solo_env>::over(arena_.memory.get(), arena_.layout)};
};

std::uint32_t line_in_kernel = 0;

char* like_a_kernel(solo_env& env, const BasicPoolRef<solo_env>& pool, std::size_t bytes) {
    line_in_kernel = __LINE__ + 1;
    return static_cast<char*>(pool.allocate(env, bytes));
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_F(HardenedAudit, LiveBlocksHaveTheirPlaces) {
    EXPECT_TRUE(static_cast<bool>(audit()));
    EXPECT_EQ(to_text(audit()), "");
    char* const block = like_a_kernel(env_, pool_, 100);
    char* const aligned = static_cast<char*>(pool_.allocate(env_, 5000, 4096));
    const std::uint32_t aligned_line = __LINE__ - 1;
    char* const run = like_a_kernel(env_, pool_, 300000);
    const AuditReport report = audit();
    EXPECT_TRUE(static_cast<bool>(report));
    EXPECT_EQ(report.faults.live_blocks, 3u);
    EXPECT_EQ(report.faults.live_bytes, 305100u);
    const std::string text = to_text(report);
    EXPECT_TRUE(contains(line_of(text, block), "of 100 bytes: live, allocated by like_a_kernel at ")) << text;
    EXPECT_TRUE(line_of(text, block).ends_with(here(line_in_kernel))) << text;
    EXPECT_TRUE(contains(line_of(text, aligned), "of 5000 bytes: live, allocated by TestBody at ")) << text;
    EXPECT_TRUE(line_of(text, aligned).ends_with(here(aligned_line))) << text;
    EXPECT_TRUE(contains(line_of(text, run), "of 300000 bytes: live, allocated by like_a_kernel at ")) << text;
    for (char* each : {block, aligned, run})
        pool_.deallocate(env_, each);
    EXPECT_EQ(audit().faults.live_blocks, 0u) << "what waits in the quarantine does not live";
}

TEST_F(HardenedAudit, AnOverrunIsFoundBeforeTheFree) {
    char* const block = like_a_kernel(env_, pool_, 100);
    block[100] = 1;
    for (int round = 0; round < 2; ++round) {
        const AuditReport report = audit();
        EXPECT_FALSE(static_cast<bool>(report));
        EXPECT_EQ(report.faults.red_zones, 1u) << "once for each block";
        EXPECT_TRUE(
            contains(to_text(report),
                     "of 100 bytes: bytes outside of the block were overwritten, allocated by like_a_kernel at "))
            << to_text(report);
    }
}

TEST_F(HardenedAudit, AnOverrunIsFoundAtTheFree) {
    char* const block = like_a_kernel(env_, pool_, 1000);
    block[1000] = 1;
    Status status = pool_.try_deallocate(env_, block);
    const std::uint32_t line = __LINE__ - 1;
    EXPECT_EQ(status, Status::corrupted);
    const std::string text = line_of(to_text(audit()), block);
    EXPECT_TRUE(
        contains(text, "of 1000 bytes: bytes outside of the block were overwritten, allocated by like_a_kernel at "));
    EXPECT_TRUE(contains(text, here(line_in_kernel) + ", found when freed by TestBody at ")) << text;
    EXPECT_TRUE(text.ends_with(here(line))) << text;
}

TEST_F(HardenedAudit, AnUnderrunIsFoundWhereverItIs) {
    // All but the number that says that the block lives.
    for (int at = -1; at >= -56; --at) {
        const Arena arena(std::size_t{1} << 20);
        pool_ = BasicPoolRef<solo_env>(HardenedHeap<solo_env>::over(arena.memory.get(), arena.layout));
        char* const block = like_a_kernel(env_, pool_, 100);
        block[at] ^= 1;
        const AuditReport report = audit();
        EXPECT_EQ(report.faults.red_zones, 1u) << at;
        EXPECT_TRUE(contains(line_of(to_text(report), block), ": bytes outside of the block were overwritten")) << at;
        if (at >= -8) {
            // What may have been overwritten is not believed.
            EXPECT_FALSE(contains(to_text(report), "allocated")) << to_text(report);
        }
        EXPECT_EQ(pool_.try_deallocate(env_, block), Status::corrupted) << at;
    }
}

TEST_F(HardenedAudit, AWriteAfterTheFreeIsFoundInTheQuarantine) {
    char* const block = like_a_kernel(env_, pool_, 200);
    pool_.deallocate(env_, block);
    const std::uint32_t line = __LINE__ - 1;
    EXPECT_TRUE(static_cast<bool>(audit()));
    block[199] = 1;
    const AuditReport report = audit();
    EXPECT_EQ(report.faults.writes_after_free, 1u);
    const std::string text = line_of(to_text(report), block);
    EXPECT_TRUE(contains(text, "of 200 bytes: written to after its free, allocated by like_a_kernel at ")) << text;
    EXPECT_TRUE(contains(text, here(line_in_kernel) + ", freed at ")) << text;
    EXPECT_TRUE(text.ends_with(here(line))) << text;
}

TEST_F(HardenedAudit, ASecondFreeHasAllThreePlaces) {
    char* const block = like_a_kernel(env_, pool_, 700);
    pool_.deallocate(env_, block);
    const std::uint32_t line = __LINE__ - 1;
    EXPECT_EQ(pool_.try_deallocate(env_, block), Status::double_free);
    const std::uint32_t again = __LINE__ - 1;
    const AuditReport report = audit();
    EXPECT_FALSE(static_cast<bool>(report));
    EXPECT_EQ(report.faults.double_frees, 1u);
    EXPECT_EQ(report.faults.first, Fault::double_free);
    const std::string text = line_of(to_text(report), block);
    EXPECT_TRUE(contains(text, "of 700 bytes: freed twice, allocated by like_a_kernel at ")) << text;
    EXPECT_TRUE(contains(text, here(line_in_kernel) + ", freed at ")) << text;
    EXPECT_TRUE(contains(text, here(line) + ", freed again by TestBody at ")) << text;
    EXPECT_TRUE(text.ends_with(here(again))) << text;
}

TEST_F(HardenedAudit, AFreeOfWhatWasNeverHandedOutHasItsPlace) {
    char* const block = like_a_kernel(env_, pool_, 1000);
    const auto slot_bytes = static_cast<std::ptrdiff_t>(
        pool_.heap().inner().usable_size(env_, block - HardenedHeap<solo_env>::header_bytes));
    const auto in_page = (block - pool_.heap().pages_base()) % static_cast<std::ptrdiff_t>(page_bytes);
    char* const other = in_page >= slot_bytes ? block - slot_bytes : block + slot_bytes;
    EXPECT_EQ(pool_.try_deallocate(env_, other), Status::never_allocated);
    const std::uint32_t line = __LINE__ - 1;
    const AuditReport report = audit();
    EXPECT_EQ(report.faults.never_allocated, 1u);
    const std::string text = line_of(to_text(report), other);
    EXPECT_TRUE(contains(text, ": freed, but never allocated, found when freed by TestBody at ")) << text;
    EXPECT_TRUE(text.ends_with(here(line))) << text;
}

TEST_F(HardenedAudit, MoreThanThereIsRoomForIsCounted) {
    char* blocks[20];
    for (char*& block : blocks) {
        block = like_a_kernel(env_, pool_, 64);
        block[64] = 1;
    }
    const AuditReport report = audit();
    EXPECT_EQ(report.faults.red_zones, 20u);
    EXPECT_EQ(report.faults.record_count, FaultReport::most_records);
    EXPECT_EQ(report.faults.live_blocks, 20u);
    EXPECT_TRUE(contains(to_text(report), "12 faults more\n")) << to_text(report);
    EXPECT_TRUE(contains(to_text(report), "12 live blocks more, 1280 bytes in all\n")) << to_text(report);
}

} // namespace
