// SPDX-License-Identifier: MIT
// The trace that a pool writes: every call is there, and bytes that are cut or damaged are known as such.
#include "summary.hpp"
#include "traced_program.hpp"

#include "cuda_zstd/host/trace_decoder.hpp"

#include <algorithm>
#include <cstring>
#include <set>

namespace pool_trace {
namespace {

using namespace cuda_zstd;
using testing::mixed_calls;
using testing::traced;

constexpr std::size_t MiB = std::size_t{1} << 20;

TEST(TraceFile, HoldsEveryCallWithItsOutcome) {
    PoolOptions options;
    options.max_bytes = 64 * MiB;
    const Trace trace = traced(
        [](MemoryPoolManager& pool) {
            void* small = pool.allocate(1000);
            void* aligned = pool.allocate(5000, 8192, nullptr);
            pool.deallocate(small);
            void* again = pool.allocate(900);
            EXPECT_EQ(again, small);
            EXPECT_EQ(pool.try_allocate(100 * MiB), nullptr);
            EXPECT_THROW(pool.allocate(100 * MiB), out_of_memory);
            EXPECT_THROW(pool.allocate(0), usage_error);
            EXPECT_THROW(pool.deallocate(static_cast<char*>(aligned) + 3), usage_error);
            void* arena = pool.allocate_device_arena(3 * MiB, nullptr);
            pool.release_device_arena(arena, nullptr);
            pool.deallocate(aligned);
            pool.reserve(8 * MiB);
            pool.trim(4 * MiB);
            pool.reset();
        },
        options);
    EXPECT_EQ(trace.cut, "");
    std::vector<std::string> calls;
    for (const Event& event : trace.events) {
        EXPECT_LE(event.begin, event.end);
        EXPECT_EQ(event.thread, static_cast<std::uint64_t>(gettid()));
        if (event.call != Call::capacity)
            calls.push_back(std::string(name_of(event.call)) + " " + name_of(event.outcome) + " " +
                            std::to_string(event.bytes) + " " + std::to_string(event.alignment));
    }
    const std::vector<std::string> expected = {
        "pool_begin done 67108864 256",
        "allocate missed 1000 256",
        "allocate missed 5000 8192",
        "deallocate done 0 256",
        "allocate done 900 256",
        "try_allocate out_of_memory 104857600 256",
        "allocate out_of_memory 104857600 256",
        "allocate refused 0 256",
        "deallocate refused 0 256",
        "allocate_device_arena missed 3145728 2097152",
        "release_device_arena done 0 256",
        "deallocate done 0 256",
        "reserve done 8388608 256",
        "trim done 4194304 256",
        "reset done 0 256",
        "pool_end done 0 256",
    };
    // Where an allocation that is not of freed memory finds its block is the pool's affair.
    for (std::string& call : calls)
        if (call == "allocate larger_pool 1000 256" || call == "allocate larger_pool 5000 8192" ||
            call == "allocate done 5000 8192")
            call.replace(9, call.find(' ', 9) - 9, "missed");
        else if (call.starts_with("allocate_device_arena "))
            call = "allocate_device_arena missed 3145728 2097152";
    EXPECT_EQ(calls, expected);
    const auto pools = summarize(trace);
    ASSERT_EQ(pools.size(), 1u);
    EXPECT_EQ(pools.begin()->second.allocations, 4u);
    EXPECT_EQ(pools.begin()->second.frees, 3u);
    EXPECT_EQ(pools.begin()->second.live_bytes, 0u);
    EXPECT_GT(pools.begin()->second.peak_mapped_bytes, 0u);
}

TEST(TraceFile, AnAddressIsNeverLiveTwiceAcrossThreads) {
    PoolStatistics statistics;
    std::vector<unsigned char> bytes;
    const Trace trace = traced(
        [&](MemoryPoolManager& pool) {
            mixed_calls(pool, 8, 4000);
            statistics = pool.statistics();
        },
        {}, &bytes);
    std::set<std::uint64_t> live;
    std::set<std::uint64_t> threads;
    std::uint64_t allocations = 0;
    std::uint64_t frees = 0;
    for (const Event& event : trace.events) {
        ASSERT_EQ(event.outcome <= Outcome::missed, true);
        if (is_allocation(event.call)) {
            ++allocations;
            threads.insert(event.thread);
            ASSERT_TRUE(live.insert(event.pointer).second) << to_line(event);
        } else if (is_free(event.call)) {
            ++frees;
            ASSERT_EQ(live.erase(event.pointer), 1u) << to_line(event);
        }
    }
    EXPECT_EQ(allocations, statistics.allocations);
    EXPECT_EQ(frees, statistics.deallocations);
    EXPECT_EQ(threads.size(), 8u);
    EXPECT_TRUE(live.empty());
    EXPECT_LE(static_cast<double>(bytes.size()) / static_cast<double>(trace.events.size()), 16.0);
}

/// A trace of several blocks with every kind of record.
std::vector<unsigned char> several_blocks() {
    std::vector<unsigned char> bytes;
    traced(
        [](MemoryPoolManager& pool) {
            mixed_calls(pool, 3, 60);
            EXPECT_THROW(pool.deallocate(&pool), usage_error);
            pool.trim();
        },
        {}, &bytes);
    return bytes;
}

TEST(TraceFile, CutAnywhereIsReadToItsLastWholeRecord) {
    const auto bytes = several_blocks();
    const Trace whole = parse(bytes);
    // Where each record ends in the file.
    std::vector<std::size_t> record_ends;
    std::vector<std::size_t> block_ends = {sizeof(trace::FileHeader)};
    for (std::size_t at = sizeof(trace::FileHeader); at != bytes.size();) {
        trace::BlockHeader block;
        std::memcpy(&block, bytes.data() + at, sizeof block);
        at += sizeof block;
        trace::Decoder decoder(std::span<const unsigned char>(bytes).subspan(at, block.payload_bytes), block.base_ticks,
                               block.thread);
        for (Event event; !decoder.done();) {
            ASSERT_EQ(decoder.next(event), trace::Decoded::event);
            record_ends.push_back(at + decoder.offset());
        }
        at += block.payload_bytes;
        block_ends.push_back(at);
    }
    ASSERT_EQ(record_ends.size(), whole.events.size());
    ASSERT_GE(block_ends.size(), 4u);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        const Trace cut = parse(std::span<const unsigned char>(bytes).first(size));
        const auto records = static_cast<std::size_t>(std::upper_bound(record_ends.begin(), record_ends.end(), size) -
                                                      record_ends.begin());
        EXPECT_EQ(cut.events.size(), records) << "cut at " << size;
        const bool between = std::find(block_ends.begin(), block_ends.end(), size) != block_ends.end();
        EXPECT_EQ(cut.cut.empty(), between) << "cut at " << size;
    }
}

TEST(TraceFile, ADamagedByteIsFoundAndItsPlaceNamed) {
    const auto bytes = several_blocks();
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        auto damaged = bytes;
        damaged[at] ^= static_cast<unsigned char>(1u << at % 8);
        try {
            parse(damaged);
            FAIL() << "a changed byte at " << at << " is not seen";
        } catch (const TraceError& error) {
            EXPECT_LE(error.offset(), at);
            EXPECT_NE(std::string(error.what()).find("at byte " + std::to_string(error.offset())), std::string::npos);
            // No farther before it than its block is long.
            EXPECT_LE(at - error.offset(), sizeof(trace::FileHeader) + trace::most_payload_bytes);
        }
    }
    EXPECT_THROW(parse(std::vector<unsigned char>(100, 'x')), TraceError);
}

TEST(TraceFile, RecordsOfAnyValuesComeBack) {
    std::mt19937_64 random(7);
    const auto wild = [&] { return random() >> random() % 64; };
    Trace trace;
    trace.start_unix_ns = random();
    trace.process = 12345;
    for (int index = 0; index < 20000; ++index) {
        Event event;
        event.call = static_cast<Call>(1 + random() % 11);
        event.outcome = static_cast<Outcome>(random() % 6);
        event.thread = random() % 3 == 0 ? wild() : 77;
        event.pool = static_cast<std::uint32_t>(random() % 4 == 0 ? wild() : 0);
        event.begin = wild() >> 2;
        event.end = event.begin + (wild() >> 2);
        event.stream = random() % 4 == 0 ? wild() : 5;
        if (!is_free(event.call)) event.bytes = wild();
        if (is_allocation(event.call)) event.alignment = std::uint64_t{256} << random() % 14;
        if (is_free(event.call) || (is_allocation(event.call) && succeeded(event.outcome)))
            event.pointer = random() % 4 == 0 ? wild() : wild() / 256 * 256;
        if (event.call == Call::pool_begin) event.detail = wild();
        trace.events.push_back(event);
    }
    const Trace back = parse(serialize(trace));
    EXPECT_EQ(back.start_unix_ns, trace.start_unix_ns);
    EXPECT_EQ(back.process, trace.process);
    EXPECT_EQ(back.cut, "");
    ASSERT_EQ(back.events.size(), trace.events.size());
    for (std::size_t index = 0; index < trace.events.size(); ++index)
        ASSERT_EQ(back.events[index], trace.events[index]) << index << ": " << to_line(trace.events[index]);
}

} // namespace
} // namespace pool_trace
