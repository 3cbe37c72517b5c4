// SPDX-License-Identifier: MIT
#include "snapshot_writer.hpp"

#include <cerrno>
#include <system_error>

namespace cuda_zstd::detail {

SnapshotWriter& SnapshotWriter::fraction(double value) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 6).ptr;
    return raw({text, static_cast<std::size_t>(end - text)});
}

SnapshotWriter& SnapshotWriter::text(std::string_view value) {
    raw("\"");
    for (const char c : value) {
        char escaped[8];
        if (c == '"' || c == '\\') {
            raw("\\").raw({&c, 1});
        } else if (static_cast<unsigned char>(c) < 0x20) {
            std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
            raw(escaped);
        } else {
            raw({&c, 1});
        }
    }
    return raw("\"");
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
