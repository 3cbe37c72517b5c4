// SPDX-License-Identifier: MIT
// The parts of the compressor against published figures: XXH64, the codes of lengths, the FSE tables, repeated offsets.
#include "codec.hpp"

#include "kernels/compression/xxh64.hpp"

#include <cstring>

namespace {

using namespace compress_test;
using cuda_zstd::detail::RepeatedOffsets;
using cuda_zstd::detail::Sequence;
using cuda_zstd::detail::Xxh64;

std::uint64_t hash_of(const char* text) {
    cuda_zstd::solo_env env;
    const Bytes data(text, text + std::strlen(text));
    return Xxh64::hash(env, data.data(), static_cast<std::uint32_t>(data.size()), 1);
}

TEST(Xxh64, PublishedValues) {
    EXPECT_EQ(hash_of(""), 0xEF46DB3751D8E999u);
    EXPECT_EQ(hash_of("a"), 0xD24EC4F1A98C6E5Bu);
    EXPECT_EQ(hash_of("abc"), 0x44BC2CF5AD770999u);
    EXPECT_EQ(hash_of("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1u);
}

TEST(Codes, LiteralLengthsOfTheRfc) {
    // RFC 8878, section 3.1.1.3.2.1.1: code, base, bits.
    const struct {
        unsigned code, base, bits;
    } rows[] = {{16, 16, 1}, {17, 18, 1}, {19, 22, 1}, {20, 24, 2}, {21, 28, 2}, {22, 32, 3}, {23, 40, 3}, {24, 48, 4}};
    for (const auto& row : rows) {
        for (unsigned value = row.base; value < row.base + (1u << row.bits); ++value)
            EXPECT_EQ(fse_tables.literal_length_code[value], row.code) << value;
        EXPECT_EQ(fse_tables.literal_length_bits[row.code], row.bits);
    }
}

TEST(Codes, MatchLengthsOfTheRfc) {
    const struct {
        unsigned code, base, bits;
    } rows[] = {{31, 34, 0}, {32, 35, 1}, {35, 41, 1}, {36, 43, 2}, {37, 47, 2},
                {38, 51, 3}, {39, 59, 3}, {40, 67, 4}, {41, 83, 4}, {42, 99, 5}};
    for (const auto& row : rows) {
        for (unsigned value = row.base; value < row.base + (1u << row.bits); ++value)
            EXPECT_EQ(fse_tables.match_length_code[value - 3], row.code) << value;
        EXPECT_EQ(fse_tables.match_length_bits[row.code], row.bits);
    }
}

TEST(Fse, EveryStateFollowsFromEverySymbol) {
    // From any state a symbol leads to a state of the table, and emits what the decoder needs to come back.
    const auto check = [](const auto& table, unsigned symbols) {
        const unsigned size = 1u << table.log;
        for (unsigned symbol = 0; symbol < symbols; ++symbol) {
            std::vector<unsigned> seen;
            for (unsigned state = size; state < 2 * size; ++state) {
                const unsigned bits = (state + table.symbol[symbol].delta_bits) >> 16;
                ASSERT_LE(bits, table.log);
                const unsigned index = (state >> bits) + static_cast<unsigned>(table.symbol[symbol].delta_state);
                ASSERT_LT(index, size);
                ASSERT_GE(table.next[index], size);
                ASSERT_LT(table.next[index], 2 * size);
                seen.push_back(table.next[index] << 16 | bits << 8 | (state & ((1u << bits) - 1)));
            }
            // Two states must differ in what they emit or in where they lead, else decoding is ambiguous.
            std::sort(seen.begin(), seen.end());
            EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end()) << "symbol " << symbol;
        }
    };
    check(fse_tables.literal_length, 36);
    check(fse_tables.match_length, 53);
    check(fse_tables.offset, 29);
}

TEST(Sequence, HoldsTheLargestValues) {
    const Sequence sequence = Sequence::pack(131071, 131072, 131074);
    EXPECT_EQ(sequence.literal_length(), 131071u);
    EXPECT_EQ(sequence.match_length(), 131072u);
    EXPECT_EQ(sequence.offset_value(), 131074u);
}

/// The decoder's side, as the RFC words it (section 3.1.1.5).
std::uint32_t decode(std::uint32_t (&history)[3], std::uint32_t value, std::uint32_t literals) {
    if (value > 3) {
        history[2] = history[1];
        history[1] = history[0];
        return history[0] = value - 3;
    }
    const std::uint32_t index = value - 1 + (literals == 0 ? 1 : 0);
    const std::uint32_t offset = index == 3 ? history[0] - 1 : history[index];
    if (index >= 2) history[2] = history[1];
    if (index >= 1) history[1] = history[0];
    return history[0] = offset;
}

TEST(RepeatedOffsets, TheDecoderFollows) {
    std::mt19937_64 random(cuda_zstd::test_seed(5));
    for (int round = 0; round < 200; ++round) {
        RepeatedOffsets encoder;
        std::uint32_t decoder[3] = {1, 4, 8};
        for (int i = 0; i < 500; ++i) {
            const std::uint32_t offset = static_cast<std::uint32_t>(1 + random() % 9);
            const std::uint32_t literals = static_cast<std::uint32_t>(random() % 2);
            const std::uint32_t value = encoder.encode(offset, literals);
            ASSERT_EQ(decode(decoder, value, literals), offset);
            ASSERT_EQ(encoder.first, decoder[0]);
            ASSERT_EQ(encoder.second, decoder[1]);
            ASSERT_EQ(encoder.third, decoder[2]);
        }
    }
}

} // namespace
