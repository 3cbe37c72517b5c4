// SPDX-License-Identifier: MIT
// JSON, written as it comes.
// Invariant: what has been written is a prefix of one JSON text; only a buffer of fixed size is held.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace cuda_zstd::detail {

/// The caller keeps brackets, keys and commas in order. Throws `std::system_error` where the file takes no more.
class SnapshotWriter {
public:
    explicit SnapshotWriter(std::FILE* to) : to_(to) {}
    SnapshotWriter(const SnapshotWriter&) = delete;
    SnapshotWriter& operator=(const SnapshotWriter&) = delete;

    SnapshotWriter& raw(std::string_view text) {
        if (text.size() > sizeof buffer_ - used_) flush();
        if (text.size() > sizeof buffer_) {
            write(text);
        } else {
            std::memcpy(buffer_ + used_, text.data(), text.size());
            used_ += text.size();
        }
        return *this;
    }
    SnapshotWriter& number(std::uint64_t value) {
        make_room(most_digits);
        used_ = static_cast<std::size_t>(digits(buffer_ + used_, value) - buffer_);
        return *this;
    }
    /// `[a,b,...]` on a line of its own; a comma before it, but for the `first` of its list.
    template <std::convertible_to<std::uint64_t>... Values>
    SnapshotWriter& row(bool& first, Values... values) {
        make_room(sizeof...(values) * (most_digits + 1) + 4);
        char* at = buffer_ + used_;
        if (!first) *at++ = ',';
        first = false;
        *at++ = '\n';
        char before = '[';
        ((*at++ = before, at = digits(at, values), before = ','), ...);
        *at++ = ']';
        used_ = static_cast<std::size_t>(at - buffer_);
        return *this;
    }
    SnapshotWriter& fraction(double value);
    /// In quotes, escaped.
    SnapshotWriter& text(std::string_view value);
    /// `"name":value`, behind `before`.
    SnapshotWriter& field(const char* name, std::uint64_t value, std::string_view before = ",") {
        return raw(before).raw("\"").raw(name).raw("\":").number(value);
    }
    void flush();

private:
    /// What one number may write, some of it behind its end.
    static constexpr std::size_t most_digits = 24;

    void make_room(std::size_t bytes) {
        if (sizeof buffer_ - used_ < bytes) flush();
    }
    void write(std::string_view text);

    /// The eight digits of a number below 10^8, one a byte, the first in the lowest. Halves, then quarters, then
    /// digits, side by side in one word: x / 100 and x / 10 by multiplications that are exact for so small x.
    static std::uint64_t eight_digits(std::uint64_t value) noexcept {
        std::uint64_t x = value / 10000 | value % 10000 << 32;
        std::uint64_t tens = (x * 10486 >> 20) & 0x0000007f0000007fu;
        x = tens | (x - tens * 100) << 16;
        tens = (x * 103 >> 10) & 0x000f000f000f000fu;
        return tens | (x - tens * 10) << 8;
    }
    /// Where the number ends; up to seven bytes behind that are overwritten.
    static char* digits(char* to, std::uint64_t value) noexcept {
        constexpr std::uint64_t eight = 100'000'000;
        constexpr std::uint64_t ascii = 0x3030303030303030u;
        if (value >= eight) {
            to = digits(to, value / eight);
            const std::uint64_t word = eight_digits(value % eight) + ascii;
            std::memcpy(to, &word, sizeof word);
            return to + sizeof word;
        }
        const std::uint64_t found = eight_digits(value);
        // The last digit is written, 0 or not.
        const int leading = std::countr_zero(found | std::uint64_t{1} << 56) / 8;
        const std::uint64_t word = (found + ascii) >> (8 * leading);
        std::memcpy(to, &word, sizeof word);
        return to + (8 - leading);
    }

    std::FILE* const to_;
    std::size_t used_ = 0;
    char buffer_[64 << 10];
};

} // namespace cuda_zstd::detail
