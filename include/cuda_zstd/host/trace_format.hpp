// SPDX-License-Identifier: MIT
// The file that CUDA_ZSTD_POOL_TRACE names: what a byte of it means, for the writer and for every reader.
//
// Invariant: a block can be read without any other, so a damaged one costs itself only; every number is little-endian;
// a header is trusted only with its checksum, and a payload that is whole only with its own. docs/profiling.md has the
// format in words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cuda_zstd::trace {

inline constexpr char file_magic[8] = {'C', 'Z', 'P', 'T', 'R', 'A', 'C', 'E'};
inline constexpr std::uint32_t block_magic = 0x314b4c42; // "BLK1"
inline constexpr std::uint32_t format_version = 1;

/// Kinds of records; the low four bits of a record's first byte.
enum class Call : std::uint8_t {
    allocate = 1,
    try_allocate = 2,
    deallocate = 3,
    allocate_device_arena = 4,
    release_device_arena = 5,
    reset = 6,
    trim = 7,
    reserve = 8,
    /// A pool begins: bytes is its limit (0: none), `detail` its strategy and, from bit 8, its backend.
    pool_begin = 9,
    pool_end = 10,
    /// Bytes are mapped now: written behind each call that has changed it.
    capacity = 11,
    /// The records that follow in this block are of pool `detail`. Not an event.
    use_pool = 12,
    /// The next record's alignment is 2^detail bytes; without it 256. Not an event.
    alignment = 13,
};
inline constexpr std::uint8_t most_calls = 13;

/// What became of a call; bits 4 to 6 of a record's first byte.
enum class Outcome : std::uint8_t {
    /// Done; an allocation found its block in the pool of its size.
    done = 0,
    /// An allocation that a larger pool served.
    larger_pool = 1,
    /// An allocation for which memory was mapped or waited for.
    missed = 2,
    out_of_memory = 3,
    /// `usage_error`: the call was wrong.
    refused = 4,
    /// Any other exception.
    failed = 5,
};
inline constexpr std::uint8_t most_outcomes = 5;

/// Bit 7 of a record's first byte: the stream is the one of the record before, in this block.
inline constexpr std::uint8_t same_stream_bit = 0x80;

/// One call, decoded. Times are ticks as in the file, or nanoseconds after TraceFile has converted them.
struct Event {
    Call call = Call::allocate;
    Outcome outcome = Outcome::done;
    /// The system's number of the thread.
    std::uint64_t thread = 0;
    std::uint32_t pool = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t stream = 0;
    /// Allocations and reserve: what was asked; trim: what to keep; capacity: what is mapped; pool_begin: the limit.
    std::uint64_t bytes = 0;
    std::uint64_t alignment = 256;
    /// Of the block; 0 where there is none.
    std::uint64_t pointer = 0;
    /// pool_begin only.
    std::uint64_t detail = 0;

    bool operator==(const Event&) const = default;
};

constexpr bool is_allocation(Call call) noexcept {
    return call == Call::allocate || call == Call::try_allocate || call == Call::allocate_device_arena;
}
constexpr bool is_free(Call call) noexcept { return call == Call::deallocate || call == Call::release_device_arena; }
constexpr bool succeeded(Outcome outcome) noexcept { return outcome <= Outcome::missed; }
/// Frees count where they begin, everything else where it ends: so a block's free is before its next allocation,
/// whichever threads they are on.
constexpr std::uint64_t order_of(const Event& event) noexcept { return is_free(event.call) ? event.begin : event.end; }

/// FileHeader::flags: the order of the records in the file is the order of the calls, whatever their times.
inline constexpr std::uint32_t ordered_flag = 1;

struct FileHeader {
    char magic[8];
    std::uint32_t version;
    std::uint32_t flags;
    /// The same moment on the clock of the records, the steady clock and the calendar's.
    std::uint64_t start_ticks;
    std::uint64_t start_steady_ns;
    std::uint64_t start_unix_ns;
    /// 1e9 where ticks are nanoseconds; else an estimate that the blocks' pairs of times make exact.
    std::uint64_t ticks_per_second;
    std::uint64_t process;
    std::uint64_t checksum;
};
static_assert(sizeof(FileHeader) == 64);

struct BlockHeader {
    std::uint32_t magic;
    std::uint32_t payload_bytes;
    std::uint32_t events;
    std::uint32_t reserved;
    std::uint64_t thread;
    /// Where the first record's time counts from.
    std::uint64_t base_ticks;
    /// The same moment, when the block was written, on both clocks.
    std::uint64_t end_ticks;
    std::uint64_t end_steady_ns;
    std::uint64_t payload_checksum;
    std::uint64_t checksum;
};
static_assert(sizeof(BlockHeader) == 64);
inline constexpr std::uint32_t most_payload_bytes = 1 << 20;

/// 64 bits over all bytes: a multiplication and a rotation for each eight, so that a change in one word always shows.
inline std::uint64_t checksum(const void* data, std::size_t bytes) noexcept {
    constexpr std::uint64_t factor = 0x9e3779b97f4a7c15;
    const auto* from = static_cast<const unsigned char*>(data);
    std::uint64_t sum = bytes * factor;
    while (bytes != 0) {
        std::uint64_t word = 0;
        const std::size_t part = bytes < sizeof word ? bytes : sizeof word;
        std::memcpy(&word, from, part);
        sum = (sum ^ word) * factor;
        sum = sum << 29 | sum >> 35;
        from += part;
        bytes -= part;
    }
    return sum;
}
template <class Header>
std::uint64_t header_checksum(const Header& header) noexcept {
    return checksum(&header, offsetof(Header, checksum));
}

/// Seven bits a byte, the lowest first.
inline unsigned char* put_varint(unsigned char* to, std::uint64_t value) noexcept {
    for (; value >= 0x80; value >>= 7)
        *to++ = static_cast<unsigned char>(value | 0x80);
    *to++ = static_cast<unsigned char>(value);
    return to;
}
constexpr std::uint64_t zigzag(std::int64_t value) noexcept {
    return static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63);
}
constexpr std::int64_t unzigzag(std::uint64_t value) noexcept {
    return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
}

/// What a record is told relative to: the record before it in its block.
struct Context {
    std::uint64_t ticks = 0;
    std::uint64_t stream = 0;
    std::uint64_t pointer = 0;
    std::uint32_t pool = 0;
};

/// Most bytes that `encode` writes for one event.
inline constexpr std::size_t most_record_bytes = 96;

/// Writes an event behind `context`, which moves on. The event's thread is the block's. Times never go back.
inline unsigned char* encode(unsigned char* to, const Event& event, Context& context) noexcept {
    if (event.pool != context.pool) {
        *to++ = static_cast<unsigned char>(Call::use_pool);
        to = put_varint(to, event.pool);
        context.pool = event.pool;
    }
    if (is_allocation(event.call) && event.alignment != 256) {
        *to++ = static_cast<unsigned char>(Call::alignment);
        to = put_varint(to, static_cast<std::uint64_t>(__builtin_ctzll(event.alignment)));
    }
    const bool same_stream = event.stream == context.stream;
    *to++ = static_cast<unsigned char>(static_cast<unsigned>(event.call) | static_cast<unsigned>(event.outcome) << 4 |
                                       (same_stream ? same_stream_bit : 0u));
    to = put_varint(to, zigzag(static_cast<std::int64_t>(event.begin - context.ticks)));
    to = put_varint(to, event.end - event.begin);
    context.ticks = event.end;
    if (!same_stream) to = put_varint(to, event.stream);
    context.stream = event.stream;
    if (!is_free(event.call)) to = put_varint(to, event.bytes);
    if (event.call == Call::pool_begin) to = put_varint(to, event.detail);
    if (is_free(event.call) || (is_allocation(event.call) && succeeded(event.outcome))) {
        const std::uint64_t distance = event.pointer - context.pointer;
        if (distance % 256 == 0) {
            to = put_varint(to, zigzag(static_cast<std::int64_t>(distance) >> 8) << 1);
            context.pointer = event.pointer;
        } else {
            *to++ = 1;
            std::memcpy(to, &event.pointer, sizeof event.pointer);
            to += sizeof event.pointer;
        }
    }
    return to;
}

} // namespace cuda_zstd::trace
