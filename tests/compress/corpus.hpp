// SPDX-License-Identifier: MIT
// Data of many kinds to compress, and libzstd's decoder to check with.
// Invariant: everything is a function of the seed and of the run's.
#pragma once

#include "../test_seed.hpp"

#include <gtest/gtest.h>

#include <zstd.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace compress_test {

using Bytes = std::vector<unsigned char>;

enum class Kind : std::uint8_t { zeros, random, text, periodic, runs, few_symbols, records, random_with_copies };
inline constexpr Kind all_kinds[] = {Kind::zeros, Kind::random,      Kind::text,    Kind::periodic,
                                     Kind::runs,  Kind::few_symbols, Kind::records, Kind::random_with_copies};

inline std::string name_of(Kind kind) {
    static constexpr const char* names[] = {"zeros", "random",      "text",    "periodic",
                                            "runs",  "few_symbols", "records", "random_with_copies"};
    return names[static_cast<std::size_t>(kind)];
}

inline Bytes make_data(Kind kind, std::size_t bytes, std::uint64_t seed) {
    std::mt19937_64 random(cuda_zstd::test_seed(seed * 1000003 + static_cast<std::uint64_t>(kind)));
    const auto below = [&](std::uint64_t bound) { return random() % bound; };
    Bytes data;
    data.reserve(bytes);
    const auto put = [&](std::uint64_t value) {
        if (data.size() < bytes) data.push_back(static_cast<unsigned char>(value));
    };
    static const char* const words[] = {"the ", "of ",     "memory ", "pool ", "block ",  "stream ", "and ", "a ",
                                        "is ",  "kernel ", "size, ",  "in ",   "frees\n", "which ",  "not ", "for "};
    const std::size_t period = 1 + below(300);
    std::size_t record = 0;
    while (data.size() < bytes) {
        switch (kind) {
        case Kind::zeros:
            put(0);
            break;
        case Kind::random:
            put(random());
            break;
        case Kind::text:
            for (const char* c = words[below(16)]; *c != 0; ++c)
                put(static_cast<unsigned char>(*c));
            break;
        case Kind::periodic:
            put(data.size() < period ? random() : data[data.size() - period]);
            break;
        case Kind::runs: {
            const std::uint64_t value = random();
            for (std::size_t i = 0, n = 1 + below(below(8) == 0 ? 5000 : 20); i < n; ++i)
                put(value);
            break;
        }
        case Kind::few_symbols:
            put('a' + below(3));
            break;
        case Kind::records:
            ++record;
            for (int i = 0; i < 4; ++i)
                put(record >> (8 * i));
            for (int i = 0; i < 12; ++i)
                put(i < 3 ? random() : i);
            break;
        case Kind::random_with_copies:
            if (data.size() < 16 || below(4) == 0) {
                for (std::size_t i = 0, n = 1 + below(100); i < n; ++i)
                    put(random());
            } else {
                const std::size_t offset = 1 + below(data.size());
                for (std::size_t i = 0, n = 3 + below(below(10) == 0 ? 3000 : 30); i < n && data.size() < bytes; ++i)
                    put(data[data.size() - offset]);
            }
            break;
        }
    }
    return data;
}

/// Decodes concatenated frames and compares with what went in.
inline ::testing::AssertionResult decodes_to(const Bytes& frames, const Bytes& expected) {
    Bytes decoded(expected.size() + 1);
    const std::size_t got = ZSTD_decompress(decoded.data(), decoded.size(), frames.data(), frames.size());
    if (ZSTD_isError(got) != 0) return ::testing::AssertionFailure() << "libzstd: " << ZSTD_getErrorName(got);
    decoded.resize(got);
    if (decoded != expected) return ::testing::AssertionFailure() << "decoded " << got << " bytes that differ";
    return ::testing::AssertionSuccess();
}

} // namespace compress_test
