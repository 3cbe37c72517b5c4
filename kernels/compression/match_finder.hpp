// SPDX-License-Identifier: MIT
// Finds the matches of a chunk: what both searches (match_scalar.hpp, match_warp.hpp) share.
//
// Invariant: every sequence emitted names bytes of this chunk that precede it, sequences are in the order of the input
// and do not overlap, and literals plus matches cover exactly [0, anchor). So whatever the hash tables hold,
// a candidate that was not compared is never emitted: a wrong or stale entry costs ratio, not correctness.
//
// Two tables of recent positions, one keyed by few bytes and one by many, as in zstd's "dfast" strategy, a lazy
// choice by the bits that a match saves, extension backwards, and all positions inside a match inserted.
#pragma once

#include "bytes.hpp"
#include "sequence.hpp"

#include "cuda_zstd/device/warp_pool_vector.hpp"

namespace cuda_zstd::detail {

/// Tables of recent positions. An entry holds the low bits of a position of this chunk; 0 at first.
template <unsigned Lanes>
struct MatchTables {
    /// 16 bits: 2 x 8 KiB in shared memory, so matches reach back 64 KiB.
    using Entry = std::uint16_t;
    static constexpr unsigned log = 12;
    Entry few[1u << log];
    Entry many[1u << log];
};

template <>
struct MatchTables<1> {
    using Entry = std::uint32_t;
    static constexpr unsigned log = 15;
    Entry few[1u << log];
    Entry many[1u << log];
};

/// A match that might be taken. `gain_bits` is what it saves over literals; 0 or less: not worth it.
struct Match {
    std::uint32_t length = 0;
    std::uint32_t offset = 0;
    std::int32_t gain_bits = 0;
};

template <class Env, class Pool>
class MatchFinder {
public:
    using Tables = MatchTables<Env::warp_lanes>;
    using Sequences = WarpPoolVector<Sequence, Env, Pool>;
    /// Inputs shorter than this have no matches: the search reads 8 bytes at each position.
    static constexpr std::uint32_t smallest_input_bytes = 16;

    CUDA_ZSTD_HD MatchFinder(Env& env, Pool& pool, Tables& tables, const unsigned char* input, std::uint32_t bytes)
        : env_(env), pool_(pool), tables_(tables), input_(input), bytes_(bytes) {
        // Small chunks use a part of the tables, so that clearing them is in proportion.
        hash_log_ = bytes < 2 ? 6 : highest_bit(bytes - 1) + 2;
        if (hash_log_ > Tables::log) hash_log_ = Tables::log;
    }

    /// Finds all sequences. False when the pool had no memory for the list: the caller clears it. O(bytes) steps.
    CUDA_ZSTD_HD bool run() {
        if (bytes_ < smallest_input_bytes) return true;
        clear_tables();
        if constexpr (Env::warp_lanes == 1) {
            return search_scalar();
        } else {
            return search_warp();
        }
    }

    CUDA_ZSTD_INLINE Sequences& sequences() { return sequences_; }
    /// Literals of all sequences, and those after the last.
    CUDA_ZSTD_INLINE std::uint32_t literal_bytes() const { return sequence_literal_bytes_ + bytes_ - anchor_; }
    CUDA_ZSTD_INLINE std::uint32_t tail_literal_bytes() const { return bytes_ - anchor_; }
    /// About how long the coded sequences will be.
    CUDA_ZSTD_INLINE std::uint32_t estimated_sequence_bytes() const { return estimated_bits_ / 8 + 8; }

private:
    // What a sequence costs: three FSE symbols, and the offset's own bits.
    static constexpr std::int32_t new_offset_bits = 17;
    static constexpr std::int32_t repeated_offset_bits = 14;
    // Past this many bytes without a match a scalar search begins to skip positions.
    static constexpr unsigned skip_log = 7;
    // A lane compares this far by itself; longer matches are extended by all lanes together.
    static constexpr std::uint32_t lane_compare_bytes = 32;

    CUDA_ZSTD_HD bool search_scalar();
    CUDA_ZSTD_HD bool search_warp();
    CUDA_ZSTD_HD std::uint32_t extend_forward(std::uint32_t position, std::uint32_t offset, std::uint32_t length);
    CUDA_ZSTD_HD std::uint32_t extend_backward(std::uint32_t position, std::uint32_t offset);

    CUDA_ZSTD_INLINE void clear_tables() {
        const std::uint32_t entries = 1u << hash_log_;
        for (std::uint32_t i = env_.lane(); i < entries; i += Env::warp_lanes)
            tables_.few[i] = tables_.many[i] = 0;
        env_.sync(whole_warp<Env>);
    }

    // Multiplicative hashes of 5 and of 8 bytes; the constants are primes near 2^64 / golden ratio, as zstd uses.
    CUDA_ZSTD_INLINE std::uint32_t hash_few(std::uint64_t bytes) const {
        return static_cast<std::uint32_t>(((bytes << 24) * 889523592379ull) >> (64 - hash_log_));
    }
    CUDA_ZSTD_INLINE std::uint32_t hash_many(std::uint64_t bytes) const {
        return static_cast<std::uint32_t>((bytes * 0xCF1BBCDCB7A56463ull) >> (64 - hash_log_));
    }

    /// Equal bytes at `position` and `offset` before it, from `length` on, at most `limit`.
    CUDA_ZSTD_INLINE std::uint32_t count_equal(std::uint32_t position, std::uint32_t offset, std::uint32_t length,
                                               std::uint32_t limit) const {
        const unsigned char* const at = input_ + position;
        if (limit > bytes_ - position) limit = bytes_ - position;
        while (length + 8 <= limit) {
            const std::uint64_t differs = load64(at + length) ^ load64(at + length - offset);
            if (differs != 0) return length + lowest_bit(differs) / 8;
            length += 8;
        }
        while (length < limit && at[length] == *(at + length - offset))
            ++length;
        return length;
    }

    /// Replaces `best` by the match of `offset` where that one saves more. `bytes` are the 8 bytes at `position`.
    CUDA_ZSTD_INLINE void consider(Match& best, std::uint32_t position, std::uint64_t bytes, std::uint32_t offset,
                                   std::int32_t price_bits, std::uint64_t needed, std::uint32_t limit) const {
        if (offset == 0 || offset > position) return;
        const std::uint64_t differs = (load64(input_ + position - offset) ^ bytes);
        if ((differs & needed) != 0) return;
        const std::uint32_t length = differs != 0 ? lowest_bit(differs) / 8 : count_equal(position, offset, 8, limit);
        const std::int32_t gain = static_cast<std::int32_t>(8 * length) - price_bits;
        if (gain > best.gain_bits) best = {length, offset, gain};
    }
    CUDA_ZSTD_INLINE void consider_repeated(Match& best, std::uint32_t position, std::uint64_t bytes,
                                            std::uint32_t limit) const {
        consider(best, position, bytes, repeated_.first, repeated_offset_bits, 0xFFFFFF, limit);
        consider(best, position, bytes, repeated_.second, repeated_offset_bits, 0xFFFFFF, limit);
    }
    CUDA_ZSTD_INLINE void consider_position(Match& best, std::uint32_t position, std::uint64_t bytes,
                                            std::uint32_t candidate, std::uint32_t limit) const {
        if (candidate >= position) return;
        const std::uint32_t offset = position - candidate;
        consider(best, position, bytes, offset, new_offset_bits + static_cast<std::int32_t>(highest_bit(offset)),
                 0xFFFFFFFF, limit);
    }

    CUDA_ZSTD_INLINE void insert(std::uint32_t position) {
        const std::uint64_t bytes = load64(input_ + position);
        tables_.few[hash_few(bytes)] = static_cast<typename Tables::Entry>(position);
        tables_.many[hash_many(bytes)] = static_cast<typename Tables::Entry>(position);
    }

    CUDA_ZSTD_INLINE bool emit(std::uint32_t start, std::uint32_t length, std::uint32_t offset) {
        const std::uint32_t literals = start - anchor_;
        const std::uint32_t value = repeated_.encode(offset, literals);
        estimated_bits_ += 15 + highest_bit(value) + (literals > 15 ? highest_bit(literals) - 3 : 0) +
                           (length > 34 ? highest_bit(length) - 3 : 0);
        sequence_literal_bytes_ += literals;
        anchor_ = start + length;
        return sequences_.push_back(env_, pool_, Sequence::pack(literals, length, value));
    }

    Env& env_;
    Pool& pool_;
    Tables& tables_;
    const unsigned char* input_;
    std::uint32_t bytes_;
    unsigned hash_log_;
    RepeatedOffsets repeated_;
    Sequences sequences_;
    std::uint32_t anchor_ = 0;
    std::uint32_t sequence_literal_bytes_ = 0;
    std::uint32_t estimated_bits_ = 0;
};

} // namespace cuda_zstd::detail

#include "match_scalar.hpp"
#include "match_warp.hpp"
