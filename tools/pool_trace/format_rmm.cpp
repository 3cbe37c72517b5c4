// SPDX-License-Identifier: MIT
#include "formats.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <iterator>
#include <unordered_map>

namespace pool_trace {
namespace {

constexpr std::string_view header_line = "Thread,Time,Action,Pointer,Size,Stream";
constexpr std::uint64_t day_ns = 86'400'000'000'000;

/// A number of the text's own base: hexadecimal with 0x, else decimal.
bool number(std::string_view text, std::uint64_t& value) {
    int base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) {
        text.remove_prefix(2);
        base = 16;
    }
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

/// HH:MM:SS and a fraction of up to nine digits, as nanoseconds since midnight.
bool time_of_day(std::string_view text, std::uint64_t& ns) {
    if (text.size() < 8 || text[2] != ':' || text[5] != ':') return false;
    std::uint64_t hours = 0, minutes = 0, seconds = 0;
    if (!number(text.substr(0, 2), hours) || !number(text.substr(3, 2), minutes) ||
        !number(text.substr(6, 2), seconds) || hours > 23 || minutes > 59 || seconds > 60)
        return false;
    ns = ((hours * 60 + minutes) * 60 + seconds) * 1'000'000'000;
    if (text.size() == 8) return true;
    std::string_view fraction = text.substr(9);
    if (text[8] != '.' || fraction.empty() || fraction.size() > 9) return false;
    std::uint64_t part = 0;
    if (fraction.find_first_not_of("0123456789") != std::string_view::npos || !number(fraction, part)) return false;
    for (std::size_t digits = fraction.size(); digits < 9; ++digits)
        part *= 10;
    ns += part;
    return true;
}

} // namespace

std::string to_rmm_csv(const Trace& trace) {
    std::string text(header_line);
    text += '\n';
    std::unordered_map<std::uint64_t, std::uint64_t> sizes;
    for (const Event& event : trace.events) {
        const bool allocation = is_allocation(event.call);
        if (!allocation && !is_free(event.call)) continue;
        // A free that was refused freed nothing, and the format cannot say so.
        if (!allocation && !succeeded(event.outcome)) continue;
        std::uint64_t bytes = event.bytes;
        const char* action = "free";
        if (allocation) {
            action = succeeded(event.outcome) ? "allocate" : "allocate failure";
            if (succeeded(event.outcome)) sizes[event.pointer] = bytes;
        } else if (const auto found = sizes.find(event.pointer); found != sizes.end()) {
            bytes = found->second;
            sizes.erase(found);
        }
        const std::uint64_t us = (trace.start_unix_ns + order_of(event)) % day_ns / 1000;
        fmt::format_to(std::back_inserter(text), "{},{:02}:{:02}:{:02}.{:06},{},{:#x},{},{:#x}\n", event.thread,
                       us / 3'600'000'000, us / 60'000'000 % 60, us / 1'000'000 % 60, us % 1'000'000, action,
                       event.pointer, bytes, event.stream);
    }
    return text;
}

Trace from_rmm_csv(std::string_view text) {
    Trace trace;
    std::size_t at = 0;
    std::uint64_t midnight_ns = 0;
    std::uint64_t last_ns = 0;
    bool first = true;
    while (at < text.size()) {
        const std::size_t line_at = at;
        std::string_view line = text.substr(at, text.find('\n', at) - at);
        at += line.size() + 1;
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (first) {
            first = false;
            if (line != header_line) throw TraceError(line_at, fmt::format("expected the line {}", header_line));
            continue;
        }
        if (line.empty()) continue;
        const auto bad = [&](std::string_view what) {
            return TraceError(line_at, fmt::format("{} in the line \"{}\"", what, line.substr(0, 200)));
        };
        std::array<std::string_view, 6> fields;
        std::string_view rest = line;
        for (std::size_t index = 0; index < fields.size(); ++index) {
            const std::size_t comma = rest.find(',');
            if ((comma == std::string_view::npos) != (index + 1 == fields.size())) throw bad("expected six fields");
            fields[index] = rest.substr(0, comma);
            rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
        }
        Event event;
        std::uint64_t ns = 0;
        const std::string_view action = fields[2];
        const bool freed = action == "free" || action == "deallocate";
        if (!freed && action != "allocate" && action != "allocate failure") throw bad("no action that is known");
        if (!number(fields[0], event.thread)) throw bad("no thread");
        if (!time_of_day(fields[1], ns)) throw bad("no time of day");
        std::uint64_t bytes = 0;
        if (fields[3] == "(nil)") fields[3] = "0";
        if (!number(fields[3], event.pointer)) throw bad("no pointer");
        if (!number(fields[4], bytes)) throw bad("no size");
        if (!number(fields[5], event.stream)) throw bad("no stream");
        // Midnight has passed where the time goes back by most of a day; a little is threads that overtake each other.
        if (ns + midnight_ns + day_ns / 2 < last_ns) midnight_ns += day_ns;
        last_ns = ns + midnight_ns;
        event.begin = event.end = last_ns;
        event.call = freed ? Call::deallocate : Call::allocate;
        if (!freed) event.bytes = bytes;
        if (action == "allocate failure") {
            event.outcome = Outcome::out_of_memory;
            event.pointer = 0;
        }
        trace.events.push_back(event);
    }
    if (first) throw TraceError(0, fmt::format("expected the line {}", header_line));
    return trace;
}

} // namespace pool_trace
