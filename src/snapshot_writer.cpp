// SPDX-License-Identifier: MIT
#include "snapshot_writer.hpp"

#include <cerrno>
#include <charconv>
#include <system_error>

namespace cuda_zstd::detail {

SnapshotWriter& SnapshotWriter::fraction(double value) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 6).ptr;
    return raw({text, static_cast<std::size_t>(end - text)});
}

SnapshotWriter& SnapshotWriter::text(std::string_view value) {
    raw("\"");
    std::size_t plain = 0; // where what needs no escape began
    for (std::size_t at = 0; at < value.size(); ++at) {
        const char c = value[at];
        if (c != '"' && c != '\\' && static_cast<unsigned char>(c) >= 0x20) continue;
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
        raw(value.substr(plain, at - plain)).raw(escaped);
        plain = at + 1;
    }
    return raw(value.substr(plain)).raw("\"");
}

void SnapshotWriter::flush() {
    write({buffer_, used_});
    used_ = 0;
}

void SnapshotWriter::write(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), to_) != text.size())
        throw std::system_error(errno, std::generic_category(), "the snapshot cannot be written");
}

} // namespace cuda_zstd::detail
