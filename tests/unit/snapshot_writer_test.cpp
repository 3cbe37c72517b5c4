// SPDX-License-Identifier: MIT
// The writer's own way to print numbers, against the standard library's.
#include "snapshot_writer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

namespace {

using cuda_zstd::detail::SnapshotWriter;

std::string read_back(std::FILE* file) {
    std::string text(static_cast<std::size_t>(std::ftell(file)), '\0');
    std::rewind(file);
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
    std::fclose(file);
    return text;
}

TEST(SnapshotWriter, NumbersAreTheStandardLibrarys) {
    std::vector<std::uint64_t> numbers = {0, ~std::uint64_t{0}};
    for (std::uint64_t power = 1, digits = 1; digits <= 20; power *= 10, ++digits)
        for (const std::uint64_t number : {power - 1, power, power + 1, 9 * power})
            numbers.push_back(number);
    std::mt19937_64 random(1);
    for (int count = 0; count < 200000; ++count)
        numbers.push_back(random() >> random() % 64);
    std::FILE* const file = std::tmpfile();
    std::string expected;
    SnapshotWriter out(file);
    bool first = true;
    for (std::size_t at = 0; at + 2 < numbers.size(); at += 3) {
        out.number(numbers[at]).row(first, numbers[at + 1], numbers[at + 2]);
        expected += std::to_string(numbers[at]) + (at == 0 ? "\n[" : ",\n[") + std::to_string(numbers[at + 1]) + "," +
                    std::to_string(numbers[at + 2]) + "]";
    }
    out.flush();
    EXPECT_TRUE(read_back(file) == expected);
}

TEST(SnapshotWriter, TextIsEscaped) {
    std::FILE* const file = std::tmpfile();
    SnapshotWriter out(file);
    out.text("").text("a\"b\\\n\x01").text(std::string(100000, 'x') + '"');
    out.flush();
    EXPECT_EQ(read_back(file), "\"\"\"a\\u0022b\\u005c\\u000a\\u0001\"\"" + std::string(100000, 'x') + "\\u0022\"");
}

} // namespace
