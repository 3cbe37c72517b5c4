// SPDX-License-Identifier: MIT
#include "cases.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace bench {
namespace {

constexpr std::size_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;

/// The rows that every subject has.
constexpr std::array<std::string_view, 9> named = {"W1/1000000/64",   "W2/100000/1024", "W3/100000/64",
                                                   "W4/100000",       "W5/1048576/64",  "W7/512MiB/64",
                                                   "W8/1024/1048576", "W9/90/4096",     "W10/10000"};

} // namespace

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    auto add = [&](const std::string& name, Workload workload, unsigned count, std::size_t bytes,
                   std::size_t heap_bytes) {
        const bool is_named = std::find(named.begin(), named.end(), name) != named.end();
        cases.push_back({name, workload, count, bytes, heap_bytes, is_named ? Selection::named : Selection::grid});
    };
    auto path = [](const char* workload, std::size_t first, std::size_t second) {
        return std::string(workload) + '/' + std::to_string(first) + '/' + std::to_string(second);
    };
    constexpr std::array<std::size_t, 6> sizes = {16, 64, 256, 1024, 4096, 8192};
    for (const unsigned count : {10000u, 100000u, 1000000u})
        for (const std::size_t bytes : sizes)
            add(path("W1", count, bytes), Workload::uniform, count, bytes, 12 * gib);
    for (const unsigned count : {10000u, 100000u, 1000000u})
        for (const std::size_t bytes : sizes)
            add(path("W2", count, bytes), Workload::mixed, count, bytes, 12 * gib);
    for (const unsigned count : {10000u, 100000u})
        for (const std::size_t bytes : sizes)
            add(path("W3", count, bytes), Workload::lane, count, bytes, 8 * gib);
    add("W4/100000", Workload::churn, 100000, 1024, 8 * gib);
    for (unsigned exponent = 0; exponent <= 24; ++exponent)
        add(path("W5", std::size_t{1} << exponent, 64), Workload::scaling, 1u << exponent, 64, 8 * gib);
    for (const std::size_t bytes : {64, 1024, 4096})
        add(path("W6", 100000, bytes), Workload::spread, 100000, bytes, 2 * gib);
    for (const std::size_t bytes : {16, 64, 256, 1024, 4096, 8192, 65536})
        add("W7/512MiB/" + std::to_string(bytes), Workload::fill, 100000, bytes, gib / 2);
    for (const std::size_t bytes : {64 * kib, 256 * kib, mib, 16 * mib})
        add(path("W8", 1024, bytes), Workload::large, 1024, bytes, 20 * gib);
    for (const unsigned per_cent : {90u, until_null})
        for (const std::size_t bytes : {4 * kib, 64 * kib})
            add("W9/" + (per_cent == until_null ? "full" : std::to_string(per_cent)) + '/' + std::to_string(bytes),
                Workload::reuse, per_cent, bytes, gib / 2);
    add("W10/10000", Workload::scratch, 10000, 64 * kib, 8 * gib);
    add("init/8GiB", Workload::init, 0, 0, 8 * gib);
    add("registers/malloc", Workload::registers, 0, 0, gib);
    add("registers/free", Workload::registers, 1, 0, gib);
    return cases;
}

} // namespace bench
