// SPDX-License-Identifier: MIT
#include "formats.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <iterator>
#include <unordered_map>

namespace pool_trace {

std::string to_chrome_json(const Trace& trace) {
    std::string text = fmt::format("{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"format\":\"cuda_zstd pool trace 1\","
                                   "\"start_unix_ns\":{},\"process\":{}}},\n\"traceEvents\":[",
                                   trace.start_unix_ns, trace.process);
    const auto to = std::back_inserter(text);
    std::unordered_map<std::uint64_t, std::uint64_t> sizes;
    std::unordered_map<std::uint32_t, std::uint64_t> live_bytes;
    const char* comma = "\n";
    const auto counter = [&](const Event& event, const char* name, std::uint64_t bytes) {
        const std::uint64_t ns = order_of(event);
        fmt::format_to(
            to, ",\n{{\"ph\":\"C\",\"pid\":{},\"name\":\"pool {} {}\",\"ts\":{}.{:03},\"args\":{{\"bytes\":{}}}}}",
            trace.process, event.pool, name, ns / 1000, ns % 1000, bytes);
    };
    for (const Event& event : trace.events) {
        fmt::format_to(to,
                       "{}{{\"ph\":\"X\",\"cat\":\"cuda_zstd\",\"pid\":{},\"tid\":{},\"name\":\"{}\",\"ts\":{}.{:03},"
                       "\"dur\":{}.{:03},\"args\":{{\"outcome\":\"{}\",\"pool\":{},\"stream\":{},\"bytes\":{},"
                       "\"alignment\":{},\"pointer\":\"{:#x}\",\"detail\":{},\"begin_ns\":{},\"end_ns\":{}}}}}",
                       comma, trace.process, event.thread, name_of(event.call), event.begin / 1000, event.begin % 1000,
                       (event.end - event.begin) / 1000, (event.end - event.begin) % 1000, name_of(event.outcome),
                       event.pool, event.stream, event.bytes, event.alignment, event.pointer, event.detail, event.begin,
                       event.end);
        comma = ",\n";
        std::uint64_t& live = live_bytes[event.pool];
        if (event.call == Call::capacity) {
            counter(event, "mapped", event.bytes);
        } else if (event.call == Call::reset) {
            live = 0;
            counter(event, "allocated", live);
        } else if (is_allocation(event.call) && succeeded(event.outcome)) {
            sizes[event.pointer] = event.bytes;
            live += event.bytes;
            counter(event, "allocated", live);
        } else if (is_free(event.call) && succeeded(event.outcome)) {
            live -= std::min(live, sizes[event.pointer]);
            counter(event, "allocated", live);
        }
    }
    text += "\n]}\n";
    return text;
}

Trace from_chrome_json(std::string_view text) {
    Trace trace;
    const auto json = nlohmann::json::parse(text);
    const auto& about = json.at("otherData");
    if (about.value("format", "") != "cuda_zstd pool trace 1")
        throw std::runtime_error("this JSON was not written by pool-trace");
    trace.start_unix_ns = about.at("start_unix_ns").get<std::uint64_t>();
    trace.process = about.at("process").get<std::uint64_t>();
    for (const auto& entry : json.at("traceEvents")) {
        if (entry.at("ph") != "X") continue;
        const auto& args = entry.at("args");
        Event event;
        event.call = call_named(entry.at("name").get<std::string>());
        event.outcome = outcome_named(args.at("outcome").get<std::string>());
        event.thread = entry.at("tid").get<std::uint64_t>();
        event.pool = args.at("pool").get<std::uint32_t>();
        event.stream = args.at("stream").get<std::uint64_t>();
        event.bytes = args.at("bytes").get<std::uint64_t>();
        event.alignment = args.at("alignment").get<std::uint64_t>();
        event.pointer = std::stoull(args.at("pointer").get<std::string>(), nullptr, 16);
        event.detail = args.at("detail").get<std::uint64_t>();
        event.begin = args.at("begin_ns").get<std::uint64_t>();
        event.end = args.at("end_ns").get<std::uint64_t>();
        trace.events.push_back(event);
    }
    return trace;
}

} // namespace pool_trace
