// SPDX-License-Identifier: MIT
// The sequences section's bit stream: three interleaved FSE states with predefined tables, last sequence first
// (RFC 8878, sections 3.1.1.3.2.1 and 4.1).
//
// Invariant: the bits of one sequence, at most 64, follow those of the sequence after it; the stream ends with the
// three states and a set bit. A sequence's bits depend on the states, which are a serial chain; codes, extra bits and
// the places of the bits are not, so a warp does those for as many sequences at once as it has lanes, and three of
// its lanes walk one chain each. Each block of the list is freed as soon as it is encoded.
#pragma once

#include "fse_predefined.hpp"
#include "output_list.hpp"
#include "sequence.hpp"

#include "cuda_zstd/device/warp_pool_vector.hpp"

namespace cuda_zstd::detail {

/// Where a warp puts a batch of bits together: two words a lane, and the carried ones before and after.
template <class Env>
struct BitStaging {
    typename Env::template atom<std::uint32_t> words[2 * Env::warp_lanes + 6];
};

template <class Env, class Pool>
class SequenceEncoder {
public:
    using Output = OutputList<Env, Pool>;
    using Sequences = WarpPoolVector<Sequence, Env, Pool>;
    static_assert(Env::warp_lanes == 1 || Env::warp_lanes >= 4, "three lanes walk one chain of states each");

    CUDA_ZSTD_HD SequenceEncoder(Env& env, Pool& pool, const FseTables& tables, BitStaging<Env>& staging,
                                 Output& output)
        : env_(env), pool_(pool), tables_(tables), staging_(staging), output_(output) {}

    /// Appends the stream of all sequences to the output and frees the list, which holds at least one. When the output
    /// breaks, the list is freed all the same. O(sequences / lanes) warp steps beside the serial chain.
    CUDA_ZSTD_HD void run(Sequences& sequences) {
        while (sequences.last() != nullptr) {
            const auto* const block = sequences.last();
            const Sequence* const elements = block->elements();
            if (output_.state() == Output::State::good) {
                for (std::uint32_t end = sequences.count(block); end != 0;) {
                    if constexpr (Env::warp_lanes == 1) {
                        encode_one(elements[--end]);
                    } else {
                        const std::uint32_t batch = end < Env::warp_lanes ? end : Env::warp_lanes;
                        encode_batch(elements + end - batch, batch);
                        end -= batch;
                    }
                }
            }
            sequences.drop_last_block(env_, pool_);
        }
        finish();
    }

private:
    /// A sequence as codes and extra bits.
    struct Coded {
        std::uint32_t codes; // literal length, match length, offset: 8 bits each
        std::uint32_t extra_count;
        std::uint64_t extra; // literal length, match length, offset, lowest first; at most 48 bits
    };

    CUDA_ZSTD_INLINE Coded code_of(Sequence sequence) const {
        const std::uint32_t literals = sequence.literal_length();
        const std::uint32_t match = sequence.match_length() - 3;
        const std::uint32_t offset = sequence.offset_value();
        const std::uint32_t literal_code =
            literals < 64 ? tables_.literal_length_code[literals] : highest_bit(literals) + 19;
        const std::uint32_t match_code = match < 128 ? tables_.match_length_code[match] : highest_bit(match) + 36;
        const std::uint32_t offset_code = highest_bit(offset);
        const std::uint32_t literal_bits = tables_.literal_length_bits[literal_code];
        const std::uint32_t match_bits = tables_.match_length_bits[match_code];
        // Every code's base is a multiple of its range, so the extra bits are the low bits of the value.
        std::uint64_t extra = low_bits(offset, offset_code);
        extra = extra << match_bits | low_bits(match, match_bits);
        extra = extra << literal_bits | low_bits(literals, literal_bits);
        return {literal_code | match_code << 8 | offset_code << 16, literal_bits + match_bits + offset_code, extra};
    }
    CUDA_ZSTD_INLINE static std::uint32_t low_bits(std::uint32_t value, std::uint32_t count) {
        return value & ((1u << count) - 1);
    }

    CUDA_ZSTD_INLINE static std::uint32_t first_state(FseSymbol symbol, const std::uint16_t* next) {
        const std::uint32_t bits = (symbol.delta_bits + (1u << 15)) >> 16;
        return next[(((bits << 16) - symbol.delta_bits) >> bits) + symbol.delta_state];
    }
    /// Moves the state on; the bits to emit, their count above bit 16.
    CUDA_ZSTD_INLINE static std::uint32_t step(std::uint32_t& state, FseSymbol symbol, const std::uint16_t* next) {
        const std::uint32_t bits = (state + symbol.delta_bits) >> 16;
        const std::uint32_t out = low_bits(state, bits) | bits << 16;
        state = next[(state >> bits) + symbol.delta_state];
        return out;
    }
    CUDA_ZSTD_INLINE static void put(std::uint64_t& bits, std::uint32_t& count, std::uint32_t out) {
        bits |= static_cast<std::uint64_t>(out & 0xFFFF) << count;
        count += out >> 16;
    }

    // ---- a warp of one ----
    CUDA_ZSTD_INLINE void encode_one(Sequence sequence) {
        const Coded coded = code_of(sequence);
        const FseSymbol literal = tables_.literal_length.symbol[coded.codes & 0xFF];
        const FseSymbol match = tables_.match_length.symbol[coded.codes >> 8 & 0xFF];
        const FseSymbol offset = tables_.offset.symbol[coded.codes >> 16];
        if (started_) {
            std::uint64_t bits = 0;
            std::uint32_t count = 0;
            put(bits, count, step(offset_state_, offset, tables_.offset.next));
            put(bits, count, step(match_state_, match, tables_.match_length.next));
            put(bits, count, step(literal_state_, literal, tables_.literal_length.next));
            add_bits(bits, count);
        } else {
            offset_state_ = first_state(offset, tables_.offset.next);
            match_state_ = first_state(match, tables_.match_length.next);
            literal_state_ = first_state(literal, tables_.literal_length.next);
            started_ = true;
        }
        add_bits(coded.extra, coded.extra_count);
    }
    /// At most 48 bits at a time, on top of at most 7 that are left.
    CUDA_ZSTD_INLINE void add_bits(std::uint64_t bits, std::uint32_t count) {
        carry_ |= bits << carry_bits_;
        carry_bits_ += count;
        const std::uint32_t bytes = carry_bits_ / 8;
        if (room_ < 8) {
            output_.append(env_, pool_, reinterpret_cast<const unsigned char*>(&carry_), bytes);
            cursor_ = output_.window(env_, pool_, room_);
        } else {
            std::memcpy(cursor_, &carry_, 8);
            cursor_ += bytes;
            room_ -= bytes;
            output_.commit(bytes);
        }
        carry_ >>= 8 * bytes;
        carry_bits_ &= 7;
    }

    // ---- a warp of several ----
    CUDA_ZSTD_HD void encode_batch(const Sequence* sequences, std::uint32_t batch) {
        constexpr LaneMask warp = whole_warp<Env>;
        const unsigned lane = env_.lane();
        const bool mine = lane < batch;
        Coded coded{};
        if (mine) coded = code_of(sequences[batch - 1 - lane]);

        // Lane 0 walks the literal lengths' states, lane 1 the match lengths', all others the offsets'.
        const unsigned chain = lane < 2 ? lane : 2;
        const FseSymbol* const symbols = chain == 0   ? tables_.literal_length.symbol
                                         : chain == 1 ? tables_.match_length.symbol
                                                      : tables_.offset.symbol;
        const std::uint16_t* const next = chain == 0   ? tables_.literal_length.next
                                          : chain == 1 ? tables_.match_length.next
                                                       : tables_.offset.next;
        std::uint64_t bits = 0;
        std::uint32_t count = 0;
        for (std::uint32_t i = 0; i < batch; ++i) {
            const std::uint32_t codes = env_.shfl(warp, coded.codes, i);
            const FseSymbol symbol = symbols[codes >> (8 * chain) & 0xFF];
            std::uint32_t out = 0;
            if (started_) {
                out = step(chain_state_, symbol, next);
            } else {
                chain_state_ = first_state(symbol, next);
                started_ = true;
            }
            const std::uint32_t literal_out = env_.shfl(warp, out, 0);
            const std::uint32_t match_out = env_.shfl(warp, out, 1);
            const std::uint32_t offset_out = env_.shfl(warp, out, 2);
            if (lane == i) {
                put(bits, count, offset_out);
                put(bits, count, match_out);
                put(bits, count, literal_out);
            }
        }
        // States take at most 17 bits and the extra bits 47: lengths add up to at most 128 KiB, and so do offset
        // and match, so no two of the three are long enough for more.
        bits |= coded.extra << count;
        count += coded.extra_count;
        place_bits(bits, count);
    }

    /// Appends every lane's bits to the stream, in the order of the lanes.
    CUDA_ZSTD_HD void place_bits(std::uint64_t bits, std::uint32_t count) {
        constexpr LaneMask warp = whole_warp<Env>;
        const std::uint32_t at = static_cast<std::uint32_t>(carry_bits_) + env_.warp_exclusive_sum(count);
        const std::uint32_t total = static_cast<std::uint32_t>(carry_bits_) + env_.warp_sum(count);
        const std::uint32_t full_words = total / 32;
        for (std::uint32_t i = env_.lane(); i <= full_words; i += Env::warp_lanes) {
            env_.store(staging_.words[i], i == 0 ? static_cast<std::uint32_t>(carry_) : 0u, Order::relaxed);
        }
        env_.sync(warp);
        const std::uint32_t shift = at % 32;
        const std::uint64_t low = bits << shift;
        place_word(at / 32, static_cast<std::uint32_t>(low));
        place_word(at / 32 + 1, static_cast<std::uint32_t>(low >> 32));
        place_word(at / 32 + 2, shift == 0 ? 0 : static_cast<std::uint32_t>(bits >> (64 - shift)));
        env_.sync(warp);
        output_.append(env_, pool_, reinterpret_cast<const unsigned char*>(staging_.words), 4 * full_words);
        carry_ = env_.load(staging_.words[full_words], Order::relaxed);
        carry_bits_ = total % 32;
        env_.sync(warp);
    }
    CUDA_ZSTD_INLINE void place_word(std::uint32_t index, std::uint32_t word) {
        if (word != 0) env_.fetch_or(staging_.words[index], word, Order::relaxed);
    }

    CUDA_ZSTD_HD void finish() {
        if constexpr (Env::warp_lanes != 1) {
            constexpr LaneMask warp = whole_warp<Env>;
            literal_state_ = env_.shfl(warp, chain_state_, 0);
            match_state_ = env_.shfl(warp, chain_state_, 1);
            offset_state_ = env_.shfl(warp, chain_state_, 2);
        }
        std::uint64_t bits = low_bits(match_state_, tables_.match_length.log);
        std::uint32_t count = tables_.match_length.log;
        bits |= static_cast<std::uint64_t>(low_bits(offset_state_, tables_.offset.log)) << count;
        count += tables_.offset.log;
        bits |= static_cast<std::uint64_t>(low_bits(literal_state_, tables_.literal_length.log)) << count;
        count += tables_.literal_length.log;
        bits |= std::uint64_t{1} << count++;
        bits = carry_ | bits << carry_bits_;
        count += static_cast<std::uint32_t>(carry_bits_);
        // 49 bits at most, byte by byte from the staging words, which all lanes can read.
        if (env_.lane() == 0) {
            env_.store(staging_.words[0], static_cast<std::uint32_t>(bits), Order::relaxed);
            env_.store(staging_.words[1], static_cast<std::uint32_t>(bits >> 32), Order::relaxed);
        }
        env_.sync(whole_warp<Env>);
        output_.append(env_, pool_, reinterpret_cast<const unsigned char*>(staging_.words), (count + 7) / 8);
        env_.sync(whole_warp<Env>);
    }

    Env& env_;
    Pool& pool_;
    const FseTables& tables_;
    BitStaging<Env>& staging_;
    Output& output_;
    std::uint64_t carry_ = 0;
    std::uint32_t carry_bits_ = 0;
    std::uint32_t literal_state_ = 0;
    std::uint32_t match_state_ = 0;
    std::uint32_t offset_state_ = 0;
    std::uint32_t chain_state_ = 0;
    std::uint32_t room_ = 0;
    unsigned char* cursor_ = nullptr;
    bool started_ = false;
};

} // namespace cuda_zstd::detail
