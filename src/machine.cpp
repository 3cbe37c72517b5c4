// SPDX-License-Identifier: MIT
#include "machine.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t unlimited_bytes = std::numeric_limits<std::size_t>::max();

/// The number in a file of one number; `unlimited_bytes` for "max" and where there is no such file.
std::size_t number_in(const char* path) {
    std::ifstream file(path);
    std::size_t value = 0;
    return file >> value ? value : unlimited_bytes;
}

} // namespace

std::size_t total_memory_bytes() {
    const std::size_t machine_bytes =
        static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return std::min(machine_bytes, number_in("/sys/fs/cgroup/memory.max"));
}

std::size_t available_memory_bytes() {
    std::size_t available_bytes = total_memory_bytes();
    std::ifstream file("/proc/meminfo");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("MemAvailable:")) {
            available_bytes = std::min(available_bytes, std::size_t{std::stoull(line.substr(13))} << 10);
            break;
        }
    }
    const std::size_t limit_bytes = number_in("/sys/fs/cgroup/memory.max");
    const std::size_t used_bytes = number_in("/sys/fs/cgroup/memory.current");
    if (limit_bytes != unlimited_bytes && used_bytes != unlimited_bytes)
        available_bytes = std::min(available_bytes, limit_bytes - std::min(limit_bytes, used_bytes));
    return available_bytes;
}

} // namespace cuda_zstd::detail
