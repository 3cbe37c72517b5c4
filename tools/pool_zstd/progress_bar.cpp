// SPDX-License-Identifier: MIT
#include "progress_bar.hpp"

#include "message.hpp"
#include "options.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace pool_zstd {

ProgressBar::ProgressBar(std::uint64_t expected_bytes)
    : expected_bytes_(expected_bytes), begin_(std::chrono::steady_clock::now()), last_drawn_(begin_) {}

void ProgressBar::show(std::uint64_t done_bytes) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_drawn_ < std::chrono::milliseconds(100)) return;
    last_drawn_ = now;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    draw_bar(line(done_bytes, static_cast<double>(done_bytes) / 1e6 / seconds, bar_columns()));
}

std::string ProgressBar::line(std::uint64_t done_bytes, double megabytes_per_second, std::size_t columns) const {
    std::string text = fmt::format("{}  {:.0f} MB/s", human_bytes(done_bytes), megabytes_per_second);
    if (expected_bytes_ != 0) {
        const std::uint64_t done = std::min(done_bytes, expected_bytes_);
        text = fmt::format("{:3}%  {}", 100 * done / expected_bytes_, text);
        constexpr std::size_t most = 30;
        constexpr std::size_t fewest = 5;
        constexpr std::size_t frame = 3;
        if (columns >= text.size() + frame + fewest) {
            const std::size_t width = std::min(most, columns - text.size() - frame);
            const auto filled = static_cast<std::size_t>(width * done / expected_bytes_);
            text = fmt::format("[{:<{}}] {}", std::string(filled, '#'), width, text);
        }
    }
    return text.substr(0, columns);
}

} // namespace pool_zstd
