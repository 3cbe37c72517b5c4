// SPDX-License-Identifier: MIT
// Round trips through other programs' formats.
#include "formats.hpp"
#include "summary.hpp"
#include "traced_program.hpp"

#include <nlohmann/json.hpp>

namespace pool_trace {
namespace {

using testing::mixed_calls;
using testing::traced;

TEST(Formats, ChromeJsonGivesBackTheTrace) {
    const Trace trace = traced([](cuda_zstd::MemoryPoolManager& pool) {
        mixed_calls(pool, 4, 500);
        pool.trim();
    });
    const std::string text = to_chrome_json(trace);
    const Trace back = from_chrome_json(text);
    EXPECT_EQ(back.events, trace.events);
    EXPECT_EQ(back.start_unix_ns, trace.start_unix_ns);
    EXPECT_EQ(back.process, trace.process);
    EXPECT_EQ(to_chrome_json(back), text);
    // What the viewers need: every slice has a begin and a duration, counters end at nothing allocated.
    std::int64_t last_allocated = -1;
    const auto json = nlohmann::json::parse(text);
    for (const auto& entry : json.at("traceEvents")) {
        ASSERT_TRUE(entry.at("ts").is_number());
        if (entry.at("ph") == "X") {
            ASSERT_TRUE(entry.at("dur").is_number());
        } else if (entry.at("name") == "pool " + std::to_string(trace.events.front().pool) + " allocated") {
            last_allocated = entry.at("args").at("bytes").get<std::int64_t>();
        }
    }
    EXPECT_EQ(last_allocated, 0);
}

TEST(Formats, RmmCsvGivesBackItsTextThroughATrace) {
    const std::string text = "Thread,Time,Action,Pointer,Size,Stream\n"
                             "140573312345856,23:59:59.999998,allocate,0x7f0000000000,1024,0x0\n"
                             "140573312345856,23:59:59.999998,allocate,0x7f0000000400,77,0x5581d6fd3f50\n"
                             "9,23:59:59.999997,allocate failure,0x0,99999999999,0x2\n"
                             "9,00:00:00.000001,free,0x7f0000000400,77,0x2\n"
                             "140573312345856,00:00:00.000002,allocate,0x7f0000000400,5,0x1\n"
                             "140573312345856,00:00:03.000000,free,0x7f0000000000,1024,0x0\n";
    const Trace trace = from_rmm_csv(text);
    ASSERT_EQ(trace.events.size(), 6u);
    EXPECT_EQ(trace.events[2].outcome, Outcome::out_of_memory);
    EXPECT_EQ(to_rmm_csv(trace), text);
    const Trace through_file = parse(serialize(trace));
    EXPECT_EQ(through_file.events, trace.events);
    EXPECT_EQ(to_rmm_csv(through_file), text);
    EXPECT_EQ(to_rmm_csv(from_chrome_json(to_chrome_json(trace))), text);
}

TEST(Formats, ATraceThroughRmmCsvKeepsWhatTheFormatHolds) {
    const Trace trace = traced([](cuda_zstd::MemoryPoolManager& pool) { mixed_calls(pool, 4, 500); });
    const std::string text = to_rmm_csv(trace);
    const Trace back = from_rmm_csv(text);
    EXPECT_EQ(to_rmm_csv(back), text);
    std::size_t at = 0;
    for (const Event& event : trace.events) {
        if (!is_allocation(event.call) && !is_free(event.call)) continue;
        ASSERT_LT(at, back.events.size());
        const Event& other = back.events[at++];
        EXPECT_EQ(other.thread, event.thread);
        EXPECT_EQ(is_free(other.call), is_free(event.call));
        EXPECT_EQ(other.pointer, event.pointer);
        EXPECT_EQ(other.bytes, event.bytes);
        EXPECT_EQ(other.stream, event.stream);
    }
    EXPECT_EQ(at, back.events.size());
}

TEST(Formats, ABadCsvLineIsNamedByItsOffset) {
    const std::string head = "Thread,Time,Action,Pointer,Size,Stream\n1,00:00:00.000000,allocate,0x100,1,0\n";
    EXPECT_EQ(from_rmm_csv(head).events.size(), 1u);
    for (const char* line :
         {"1,00:00:00.000000,allocate,0x100,1", "1,00:00:00.000000,allocate,0x100,1,0,0",
          "x,00:00:00.000000,allocate,0x100,1,0", "1,24:00:00.000000,allocate,0x100,1,0",
          "1,00:00:00.,allocate,0x100,1,0", "1,00:00:00.000000,steal,0x100,1,0", "1,00:00:00.000000,allocate,zz,1,0",
          "1,00:00:00.000000,allocate,0x100,-1,0", "1,00:00:00.000000,allocate,0x100,1,"})
        try {
            from_rmm_csv(head + line + "\n");
            ADD_FAILURE() << line;
        } catch (const TraceError& error) {
            EXPECT_EQ(error.offset(), head.size()) << line;
        }
    EXPECT_THROW(from_rmm_csv("1,2,3\n"), TraceError);
    EXPECT_THROW(from_rmm_csv(""), TraceError);
}

} // namespace
} // namespace pool_trace
