// SPDX-License-Identifier: MIT
// What the program tells people, on standard error: messages, and a bar that shows how far it is.
// Invariant: no message stands on the bar's line. What cannot be written, as when standard error is closed or full, is
// dropped: it ends nothing.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <utility>

namespace pool_zstd {

/// Erases the bar and writes the text.
void say_text(const std::string& text);

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
    say_text(fmt::format(format, std::forward<Args>(args)...));
}

/// Whether standard error is a terminal that can erase a line.
bool can_draw_bar();
/// Characters that a line of that terminal holds without a wrap.
std::size_t bar_columns();
/// Shows this line, of at most `bar_columns` characters, in place of the one that was shown before.
void draw_bar(const std::string& line);
/// Erases the bar where one is shown. A signal handler may call it.
void erase_bar() noexcept;

} // namespace pool_zstd
