// SPDX-License-Identifier: MIT
// What the program tells people, on standard error.
// Invariant: a message that cannot be written, as when standard error is closed or full, is dropped: it ends nothing.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

namespace pool_zstd {

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
    // fmt::print throws where it cannot write.
    const std::string text = fmt::format(format, std::forward<Args>(args)...);
    static_cast<void>(std::fwrite(text.data(), 1, text.size(), stderr));
}

} // namespace pool_zstd
