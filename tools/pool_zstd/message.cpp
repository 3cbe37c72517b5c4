// SPDX-License-Identifier: MIT
#include "message.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>

namespace pool_zstd {
namespace {

/// For signal handlers, too.
std::atomic<bool> bar_is_shown{false};
static_assert(std::atomic<bool>::is_always_lock_free);

/// To the line's begin, and all of it cleared.
constexpr std::string_view erase = "\r\x1b[K";

} // namespace

void say_text(const std::string& text) {
    erase_bar();
    // fmt::print throws where it cannot write. Standard error has no buffer.
    static_cast<void>(std::fwrite(text.data(), 1, text.size(), stderr));
}

bool can_draw_bar() {
    const char* const terminal = std::getenv("TERM");
    return isatty(STDERR_FILENO) != 0 && (terminal == nullptr || std::string_view(terminal) != "dumb");
}

std::size_t bar_columns() {
    struct winsize size {};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 79;
    // A character in the last column may take the cursor to the next line.
    return size.ws_col - std::size_t{1};
}

void draw_bar(const std::string& line) {
    // Said before it is done: a signal in between erases it.
    bar_is_shown.store(true);
    const std::string text = "\r" + line + "\x1b[K";
    static_cast<void>(std::fwrite(text.data(), 1, text.size(), stderr));
}

void erase_bar() noexcept {
    if (!bar_is_shown.exchange(false)) return;
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, erase.data(), erase.size());
}

} // namespace pool_zstd
