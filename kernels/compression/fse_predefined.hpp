// SPDX-License-Identifier: MIT
// The predefined FSE tables of RFC 8878 (section 3.1.1.3.2.2), as encoder tables, with the codes of literal lengths
// and match lengths.
//
// Invariant: built at compile time from the normalised counts of the RFC and nothing else; plain data, so that a
// kernel copies it into shared memory. Encoding a symbol from state s (in [size, 2 size)) emits the low
// `(s + delta_bits) >> 16` bits of s and moves to `next[(s >> bits) + delta_state]` (Collet's FSE, as the RFC's
// decoding tables define it).
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <cstdint>

namespace cuda_zstd::detail {

/// What encoding one symbol takes.
struct FseSymbol {
    std::uint32_t delta_bits;
    std::int32_t delta_state;
};

/// An encoder table of 2^`Log` states for symbols 0..`Symbols`-1.
template <unsigned Log, unsigned Symbols>
struct FseTable {
    static constexpr unsigned log = Log;
    FseSymbol symbol[Symbols];
    std::uint16_t next[1u << Log];
};

namespace fse {

template <unsigned Log, unsigned Symbols>
constexpr FseTable<Log, Symbols> build(const std::int8_t (&counts)[Symbols]) {
    constexpr unsigned size = 1u << Log;
    FseTable<Log, Symbols> table{};
    // Where each symbol's states lie: those of probability "less than 1" at the end, the others spread by the RFC's
    // step.
    std::uint8_t spread[size]{};
    unsigned high = size - 1;
    for (unsigned s = 0; s < Symbols; ++s) {
        if (counts[s] == -1) spread[high--] = static_cast<std::uint8_t>(s);
    }
    unsigned position = 0;
    for (unsigned s = 0; s < Symbols; ++s) {
        for (int i = 0; i < counts[s]; ++i) {
            spread[position] = static_cast<std::uint8_t>(s);
            do {
                position = (position + (size >> 1) + (size >> 3) + 3) & (size - 1);
            } while (position > high);
        }
    }
    unsigned first[Symbols + 1]{};
    for (unsigned s = 0; s < Symbols; ++s)
        first[s + 1] = first[s] + static_cast<unsigned>(counts[s] < 0 ? 1 : counts[s]);
    unsigned cursor[Symbols]{};
    for (unsigned s = 0; s < Symbols; ++s)
        cursor[s] = first[s];
    for (unsigned i = 0; i < size; ++i)
        table.next[cursor[spread[i]]++] = static_cast<std::uint16_t>(size + i);
    for (unsigned s = 0; s < Symbols; ++s) {
        const unsigned count = first[s + 1] - first[s];
        if (count == 1) {
            table.symbol[s] = {(Log << 16) - size, static_cast<std::int32_t>(first[s]) - 1};
        } else if (count > 1) {
            unsigned log_count = 0;
            while ((2u << log_count) <= count - 1)
                ++log_count;
            const unsigned most_bits = Log - log_count;
            table.symbol[s] = {(most_bits << 16) - (count << most_bits),
                               static_cast<std::int32_t>(first[s]) - static_cast<std::int32_t>(count)};
        }
    }
    return table;
}

inline constexpr std::int8_t literal_length_counts[36] = {4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1,  1,  2,  2,
                                                          2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1};
inline constexpr std::int8_t match_length_counts[53] = {1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1,  1,  1,  1,  1,  1,  1, 1,
                                                        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,  1,  1,  1,  1,  1,  1, 1,
                                                        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1};
inline constexpr std::int8_t offset_counts[29] = {1, 1, 1, 1, 1, 1, 2, 2, 2, 1,  1,  1,  1,  1, 1,
                                                  1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1};
// Extra bits of each code; the codes below these tables' first nonzero entry are the value itself.
inline constexpr std::uint8_t literal_length_bits[36] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0,  0,  1,  1,
                                                         1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
inline constexpr std::uint8_t match_length_bits[53] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0,  0,  0,  0, 0,
                                                       0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0,  1,  1,  1, 1,
                                                       2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

} // namespace fse

/// Everything that the sequence encoder looks up: 1.7 KiB.
struct FseTables {
    FseTable<6, 36> literal_length;
    FseTable<6, 53> match_length;
    FseTable<5, 29> offset;
    /// Codes of literal lengths below 64 and of match lengths (less 3) below 128; larger values follow the logarithm.
    std::uint8_t literal_length_code[64];
    std::uint8_t match_length_code[128];
    std::uint8_t literal_length_bits[36];
    std::uint8_t match_length_bits[56];
};

constexpr FseTables make_fse_tables() {
    FseTables tables{};
    tables.literal_length = fse::build<6>(fse::literal_length_counts);
    tables.match_length = fse::build<6>(fse::match_length_counts);
    tables.offset = fse::build<5>(fse::offset_counts);
    unsigned code = 0;
    unsigned base = 0;
    for (unsigned value = 0; value < 64; ++value) {
        if (value == base + (1u << fse::literal_length_bits[code])) base = value, ++code;
        tables.literal_length_code[value] = static_cast<std::uint8_t>(code);
    }
    code = base = 0;
    for (unsigned value = 0; value < 128; ++value) {
        if (value == base + (1u << fse::match_length_bits[code])) base = value, ++code;
        tables.match_length_code[value] = static_cast<std::uint8_t>(code);
    }
    for (unsigned i = 0; i < 36; ++i)
        tables.literal_length_bits[i] = fse::literal_length_bits[i];
    for (unsigned i = 0; i < 53; ++i)
        tables.match_length_bits[i] = fse::match_length_bits[i];
    return tables;
}

} // namespace cuda_zstd::detail
