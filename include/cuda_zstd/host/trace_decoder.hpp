// SPDX-License-Identifier: MIT
// Reads back what trace_format.hpp's `encode` has written.
// Invariant: whatever the bytes are, nothing outside of them is read, and only whole records are consumed.
#pragma once

#include "cuda_zstd/host/trace_format.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace cuda_zstd::trace {

/// How a decoding step ended.
enum class Decoded : std::uint8_t { event, prefix, cut, malformed };

/// Reads records of one block's payload.
class Decoder {
public:
    Decoder(std::span<const unsigned char> payload, std::uint64_t base_ticks, std::uint64_t thread) noexcept
        : at_(payload.data()), begin_(payload.data()), end_(payload.data() + payload.size()), thread_(thread) {
        context_.ticks = base_ticks;
    }
    /// Bytes of whole records so far.
    std::size_t offset() const noexcept { return static_cast<std::size_t>(at_ - begin_); }
    bool done() const noexcept { return at_ == end_; }

    /// Reads the next event into `event`. `cut` where the payload ends inside a record: nothing is consumed then.
    Decoded next(Event& event) noexcept {
        const unsigned char* const start = at_;
        const Context before = context_;
        Decoded result = Decoded::prefix;
        std::uint64_t alignment = 256;
        while (result == Decoded::prefix)
            result = record(event, alignment);
        if (result != Decoded::event) {
            at_ = start;
            context_ = before;
        }
        return result;
    }

private:
    bool number(std::uint64_t& value) noexcept {
        value = 0;
        for (unsigned shift = 0; shift < 64 && at_ != end_; shift += 7) {
            const unsigned char byte = *at_++;
            value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
            if (shift == 63 && byte > 1) return wrong();
            if (byte < 0x80) return true;
        }
        return at_ != end_ ? wrong() : false;
    }
    bool wrong() noexcept {
        wrong_ = true;
        return false;
    }
    Decoded bad() const noexcept { return wrong_ ? Decoded::malformed : Decoded::cut; }

    Decoded record(Event& event, std::uint64_t& alignment) noexcept {
        if (at_ == end_) return Decoded::cut;
        const unsigned char first = *at_++;
        const unsigned call = first & 0xf;
        const unsigned outcome = first >> 4 & 7;
        if (call == 0 || call > most_calls || outcome > most_outcomes) return Decoded::malformed;
        std::uint64_t value = 0;
        if (static_cast<Call>(call) == Call::use_pool || static_cast<Call>(call) == Call::alignment) {
            if (first >> 4 != 0) return Decoded::malformed;
            if (!number(value)) return bad();
            if (static_cast<Call>(call) == Call::alignment) {
                if (value > 40) return Decoded::malformed;
                alignment = std::uint64_t{1} << value;
            } else {
                if (value > UINT32_MAX) return Decoded::malformed;
                context_.pool = static_cast<std::uint32_t>(value);
            }
            return Decoded::prefix;
        }
        event = {};
        event.call = static_cast<Call>(call);
        event.outcome = static_cast<Outcome>(outcome);
        event.thread = thread_;
        event.pool = context_.pool;
        event.alignment = alignment;
        if (!number(value)) return bad();
        event.begin = context_.ticks + static_cast<std::uint64_t>(unzigzag(value));
        if (!number(value)) return bad();
        event.end = event.begin + value;
        if ((first & same_stream_bit) == 0 && !number(context_.stream)) return bad();
        event.stream = context_.stream;
        if (!is_free(event.call) && !number(event.bytes)) return bad();
        if (event.call == Call::pool_begin && !number(event.detail)) return bad();
        if (is_free(event.call) || (is_allocation(event.call) && succeeded(event.outcome))) {
            if (!number(value)) return bad();
            if (value == 1) {
                if (end_ - at_ < static_cast<std::ptrdiff_t>(sizeof event.pointer)) return Decoded::cut;
                std::memcpy(&event.pointer, at_, sizeof event.pointer);
                at_ += sizeof event.pointer;
            } else if ((value & 1) == 0) {
                context_.pointer += static_cast<std::uint64_t>(unzigzag(value >> 1)) << 8;
                event.pointer = context_.pointer;
            } else {
                return Decoded::malformed;
            }
        }
        context_.ticks = event.end;
        return Decoded::event;
    }

    const unsigned char* at_;
    const unsigned char* begin_;
    const unsigned char* end_;
    std::uint64_t thread_;
    Context context_;
    bool wrong_ = false;
};

} // namespace cuda_zstd::trace
