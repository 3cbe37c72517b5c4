// SPDX-License-Identifier: MIT
// JSON, written as it comes.
// Invariant: what has been written is a prefix of one JSON text; only a buffer of fixed size is held.
#pragma once

#include <charconv>
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
        if (sizeof buffer_ - used_ < 24) flush();
        used_ = static_cast<std::size_t>(std::to_chars(buffer_ + used_, buffer_ + sizeof buffer_, value).ptr - buffer_);
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
    void write(std::string_view text);

    std::FILE* const to_;
    std::size_t used_ = 0;
    char buffer_[64 << 10];
};

} // namespace cuda_zstd::detail
