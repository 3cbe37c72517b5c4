// SPDX-License-Identifier: MIT
#include "trace_file.hpp"

#include "cuda_zstd/host/trace_decoder.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace pool_trace {

using namespace cuda_zstd::trace;

namespace {

template <class Header>
Header header_at(std::span<const unsigned char> bytes, std::size_t offset) {
    Header header;
    std::memcpy(&header, bytes.data() + offset, sizeof header);
    return header;
}

/// Two readings of both clocks, far apart, from which ticks become nanoseconds.
struct Clock {
    std::uint64_t start_ticks = 0;
    std::uint64_t end_ticks = 0;
    std::uint64_t nanoseconds = 0;

    std::uint64_t since_start_ns(std::uint64_t ticks) const {
        if (end_ticks == start_ticks || ticks <= start_ticks) return 0;
        __extension__ using Wide = unsigned __int128;
        return static_cast<std::uint64_t>(static_cast<Wide>(ticks - start_ticks) * nanoseconds /
                                          (end_ticks - start_ticks));
    }
};

/// Decodes one block's records, all of them or, of a block that is cut, the whole ones.
std::size_t decode(std::span<const unsigned char> payload, const BlockHeader& header, std::size_t at,
                   std::vector<Event>& events) {
    Decoder decoder(payload, header.base_ticks, header.thread);
    const bool whole = payload.size() == header.payload_bytes;
    std::size_t count = 0;
    while (!decoder.done()) {
        Event event;
        const Decoded result = decoder.next(event);
        if (result == Decoded::event) {
            events.push_back(event);
            ++count;
            continue;
        }
        if (result == Decoded::cut && !whole) break;
        throw TraceError(at + decoder.offset(), "no record can begin like this");
    }
    if (whole && count != header.events)
        throw TraceError(at, "the block holds " + std::to_string(count) + " records, its header says " +
                                 std::to_string(header.events));
    return count;
}

} // namespace

Trace parse(std::span<const unsigned char> bytes) {
    Trace trace;
    if (bytes.size() < sizeof(FileHeader)) {
        if (std::memcmp(bytes.data(), file_magic, std::min(bytes.size(), sizeof file_magic)) != 0)
            throw TraceError(0, "this is no trace of a CUDA-ZSTD memory pool");
        trace.cut = "the file ends inside its header, after " + std::to_string(bytes.size()) + " bytes: no record";
        return trace;
    }
    const auto file = header_at<FileHeader>(bytes, 0);
    if (std::memcmp(file.magic, file_magic, sizeof file_magic) != 0)
        throw TraceError(0, "this is no trace of a CUDA-ZSTD memory pool");
    if (file.checksum != header_checksum(file)) throw TraceError(0, "the file's header is damaged");
    if (file.version != format_version)
        throw TraceError(8, "version " + std::to_string(file.version) + " of the format is unknown here");
    trace.start_unix_ns = file.start_unix_ns;
    trace.process = file.process;
    Clock clock{file.start_ticks, file.start_ticks + file.ticks_per_second, 1'000'000'000};

    std::size_t at = sizeof(FileHeader);
    while (at != bytes.size()) {
        const std::size_t left = bytes.size() - at;
        if (left < sizeof(BlockHeader)) {
            trace.cut = "the file ends inside the header of the block at byte " + std::to_string(at);
            break;
        }
        const auto block = header_at<BlockHeader>(bytes, at);
        if (block.magic != block_magic || block.checksum != header_checksum(block) ||
            block.payload_bytes > most_payload_bytes)
            throw TraceError(at, "the header of a block is damaged");
        // Converted traces carry nanoseconds; others two clocks, whose readings farthest apart tell the rate best.
        if (block.end_steady_ns > file.start_steady_ns && block.end_ticks > clock.start_ticks &&
            (clock.nanoseconds == 1'000'000'000 || block.end_ticks > clock.end_ticks)) {
            clock.end_ticks = block.end_ticks;
            clock.nanoseconds = block.end_steady_ns - file.start_steady_ns;
        }
        const std::size_t payload_at = at + sizeof block;
        const std::size_t there = std::min<std::size_t>(block.payload_bytes, bytes.size() - payload_at);
        const auto payload = bytes.subspan(payload_at, there);
        if (there == block.payload_bytes && checksum(payload.data(), there) != block.payload_checksum)
            throw TraceError(payload_at, "the records of a block are damaged");
        const std::size_t count = decode(payload, block, payload_at, trace.events);
        if (there != block.payload_bytes) {
            trace.cut = "the file ends inside the block at byte " + std::to_string(at) + ": " + std::to_string(count) +
                        " of its " + std::to_string(block.events) + " records are whole";
            break;
        }
        at = payload_at + there;
    }
    if ((file.flags & ordered_flag) == 0)
        std::stable_sort(trace.events.begin(), trace.events.end(),
                         [](const Event& a, const Event& b) { return order_of(a) < order_of(b); });
    for (Event& event : trace.events) {
        event.begin = clock.since_start_ns(event.begin);
        event.end = clock.since_start_ns(event.end);
    }
    return trace;
}

std::vector<unsigned char> serialize(const Trace& trace) {
    FileHeader file{};
    std::memcpy(file.magic, file_magic, sizeof file.magic);
    file.version = format_version;
    file.flags = ordered_flag;
    file.start_unix_ns = trace.start_unix_ns;
    file.ticks_per_second = 1'000'000'000;
    file.process = trace.process;
    file.checksum = header_checksum(file);
    std::vector<unsigned char> bytes(sizeof file);
    std::memcpy(bytes.data(), &file, sizeof file);

    // A block holds one thread's events: the next thread's begin another, so that the file keeps the order.
    constexpr std::size_t block_bytes = 64 << 10;
    std::size_t index = 0;
    std::vector<unsigned char> payload(block_bytes + most_record_bytes);
    while (index != trace.events.size()) {
        const Event& first = trace.events[index];
        BlockHeader block{};
        Context context;
        context.ticks = first.begin;
        unsigned char* to = payload.data();
        while (index != trace.events.size() && trace.events[index].thread == first.thread &&
               static_cast<std::size_t>(to - payload.data()) < block_bytes) {
            to = encode(to, trace.events[index++], context);
            ++block.events;
        }
        block.magic = block_magic;
        block.payload_bytes = static_cast<std::uint32_t>(to - payload.data());
        block.thread = first.thread;
        block.base_ticks = first.begin;
        block.payload_checksum = checksum(payload.data(), block.payload_bytes);
        block.checksum = header_checksum(block);
        const auto* raw = reinterpret_cast<const unsigned char*>(&block);
        bytes.insert(bytes.end(), raw, raw + sizeof block);
        bytes.insert(bytes.end(), payload.data(), to);
    }
    return bytes;
}

std::vector<unsigned char> read_bytes(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> opened(path == "-" ? nullptr : std::fopen(path.c_str(), "rb"),
                                                                 &std::fclose);
    std::FILE* const file = path == "-" ? stdin : opened.get();
    if (file == nullptr) throw std::runtime_error(path + ": " + std::strerror(errno));
    std::vector<unsigned char> bytes;
    for (std::size_t got = 1; got != 0;) {
        const std::size_t before = bytes.size();
        bytes.resize(before + (std::size_t{1} << 20));
        got = std::fread(bytes.data() + before, 1, bytes.size() - before, file);
        bytes.resize(before + got);
    }
    if (std::ferror(file) != 0) throw std::runtime_error(path + ": " + std::strerror(errno));
    return bytes;
}

void write_bytes(const std::string& path, std::span<const unsigned char> bytes) {
    std::FILE* const file = path == "-" ? stdout : std::fopen(path.c_str(), "wb");
    if (file == nullptr) throw std::runtime_error(path + ": " + std::strerror(errno));
    const bool wrote = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
    const bool closed = file == stdout ? std::fflush(file) == 0 : std::fclose(file) == 0;
    if (!wrote || !closed) throw std::runtime_error(path + ": " + std::strerror(errno));
}

namespace {

constexpr const char* call_names[] = {"",
                                      "allocate",
                                      "try_allocate",
                                      "deallocate",
                                      "allocate_device_arena",
                                      "release_device_arena",
                                      "reset",
                                      "trim",
                                      "reserve",
                                      "pool_begin",
                                      "pool_end",
                                      "capacity"};
constexpr const char* outcome_names[] = {"done", "larger_pool", "missed", "out_of_memory", "refused", "failed"};

} // namespace

const char* name_of(Call call) noexcept { return call_names[static_cast<unsigned>(call)]; }
const char* name_of(Outcome outcome) noexcept { return outcome_names[static_cast<unsigned>(outcome)]; }

Call call_named(const std::string& name) {
    for (unsigned index = 1; index < std::size(call_names); ++index)
        if (name == call_names[index]) return static_cast<Call>(index);
    throw std::runtime_error("\"" + name + "\" is the name of no call");
}
Outcome outcome_named(const std::string& name) {
    for (unsigned index = 0; index < std::size(outcome_names); ++index)
        if (name == outcome_names[index]) return static_cast<Outcome>(index);
    throw std::runtime_error("\"" + name + "\" is the name of no outcome");
}

} // namespace pool_trace
