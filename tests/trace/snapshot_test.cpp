// SPDX-License-Identifier: MIT
// A snapshot says what the pool has; the schema is checked by snapshot_schema.py.
#include "cuda_zstd_memory_pool_enhanced.h"
#include "report.hpp"
#include "traced_program.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <cstdio>
#include <map>
#include <string>
#include <system_error>
#include <thread>

namespace cuda_zstd {
namespace {

std::string snapshot_of(const MemoryPoolManager& pool) {
    std::FILE* const file = std::tmpfile();
    pool.write_snapshot(file);
    std::string text(static_cast<std::size_t>(std::ftell(file)), '\0');
    std::rewind(file);
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
    std::fclose(file);
    return text;
}

PoolOptions options() {
    PoolOptions made;
    made.backend = BackendKind::host;
    made.diagnostics = nullptr;
    return made;
}

TEST(Snapshot, HoldsEveryBlockOnce) {
    MemoryPoolManager pool(options());
    std::map<std::uint64_t, std::size_t> expected;
    for (std::size_t bytes : {1, 1000, 70000, 300000, 5000000})
        for (int count = 0; count < 20; ++count) {
            void* const block = pool.allocate(bytes);
            if (count % 3 == 0)
                pool.deallocate(block);
            else
                expected[reinterpret_cast<std::uintptr_t>(block)] = bytes;
        }
    const std::string text = snapshot_of(pool);
    const auto json = nlohmann::json::parse(text);
    std::map<std::uint64_t, std::size_t> live;
    std::map<std::uint64_t, std::uint64_t> ends;
    std::uint64_t free_bytes = 0;
    for (const auto& row : json.at("live")) {
        live[row.at(0)] = row.at(1);
        EXPECT_GE(row.at(2).get<std::size_t>(), row.at(1).get<std::size_t>());
        EXPECT_EQ(row.at(2).get<std::size_t>(),
                  pool.usable_size(reinterpret_cast<void*>(row.at(0).get<std::uintptr_t>())));
        ends[row.at(0)] = row.at(0).get<std::uint64_t>() + row.at(2).get<std::uint64_t>();
    }
    EXPECT_EQ(live, expected);
    for (const auto& row : json.at("free")) {
        free_bytes += row.at(1).get<std::uint64_t>();
        EXPECT_TRUE(ends.emplace(row.at(0), row.at(0).get<std::uint64_t>() + row.at(1).get<std::uint64_t>()).second);
    }
    EXPECT_EQ(free_bytes, pool.statistics().free_bytes);
    // Nothing overlaps, everything is in an arena, and what is not mapped holds no block.
    for (const auto& arena : json.at("arenas"))
        for (const auto& piece : arena.at("unmapped"))
            EXPECT_TRUE(
                ends.emplace(piece.at(0), piece.at(0).get<std::uint64_t>() + piece.at(1).get<std::uint64_t>()).second);
    std::uint64_t end = 0;
    for (const auto& [at, piece_end] : ends) {
        EXPECT_GE(at, end);
        end = piece_end;
    }
    ASSERT_EQ(json.at("arenas").size(), 1u);
    const auto& arena = json.at("arenas").at(0);
    EXPECT_GE(ends.begin()->first, arena.at("base").get<std::uint64_t>());
    EXPECT_LE(end, arena.at("base").get<std::uint64_t>() + arena.at("bytes").get<std::uint64_t>());
    EXPECT_EQ(json.at("statistics").at("live_blocks"), expected.size());

    // The page holds the same, and no character that could end its data.
    const std::string page = pool_trace::report_page({.trace = {}, .snapshot = text, .title = "</script><b>"});
    EXPECT_EQ(page.find("</script><b>"), std::string::npos);
    EXPECT_EQ(page.find("http://"), std::string::npos);
    EXPECT_EQ(page.find("https://"), std::string::npos);
}

TEST(Snapshot, IsSoundWhileOthersAllocate) {
    MemoryPoolManager pool(options());
    std::atomic<bool> stop{false};
    std::thread other([&] {
        while (!stop)
            pool_trace::testing::mixed_calls(pool, 2, 200);
    });
    for (int round = 0; round < 20; ++round) {
        const auto json = nlohmann::json::parse(snapshot_of(pool));
        std::map<std::uint64_t, std::uint64_t> ends;
        for (const char* key : {"live", "free"})
            for (const auto& row : json.at(key))
                EXPECT_TRUE(
                    ends.emplace(row.at(0), row.at(0).get<std::uint64_t>() + row.at(1).get<std::uint64_t>()).second);
        std::uint64_t end = 0;
        for (const auto& [at, piece_end] : ends) {
            EXPECT_GE(at, end);
            end = piece_end;
        }
    }
    stop = true;
    other.join();
}

TEST(Snapshot, AFullDiskIsAnError) {
    std::FILE* const full = std::fopen("/dev/full", "w");
    ASSERT_NE(full, nullptr);
    MemoryPoolManager pool(options());
    EXPECT_THROW(pool.write_snapshot(full), std::system_error);
    std::fclose(full);
}

TEST(Report, AdviceFollowsFromTheTrace) {
    PoolOptions limited = options();
    limited.max_bytes = std::size_t{8} << 20;
    const auto trace = pool_trace::testing::traced(
        [](MemoryPoolManager& pool) {
            (void)pool.allocate(1000);
            EXPECT_EQ(pool.try_allocate(std::size_t{100} << 20), nullptr);
        },
        limited);
    const auto data = pool_trace::report_data({.trace = trace, .snapshot = {}, .title = "t"});
    const std::string advice = data.at("advice").dump();
    EXPECT_NE(advice.find("1 allocations found no memory"), std::string::npos) << advice;
    EXPECT_NE(advice.find("1 blocks of 0.0 MiB in all are never freed"), std::string::npos) << advice;
    EXPECT_EQ(data.at("live").size(), 1u);
    EXPECT_EQ(data.at("arenas").size(), 1u);
    EXPECT_THROW(pool_trace::report_page({.trace = {}, .snapshot = "{}", .title = ""}), std::runtime_error);
}

} // namespace
} // namespace cuda_zstd
