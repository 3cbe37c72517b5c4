// SPDX-License-Identifier: MIT
// Compresses one chunk into the content of one zstd block, and writes frames around blocks (RFC 8878, section 3.1.1).
//
// Invariant: a chunk is one frame with content size, single segment, one last block. A compressed block is strictly
// smaller than the chunk; otherwise the chunk is stored, or one repeated byte. Of the pool, only the output list of a
// compressed chunk outlives `compress_chunk`; every other path has freed what it took.
#pragma once

#include "compress_args.hpp"
#include "match_finder.hpp"
#include "sequence_encoder.hpp"
#include "xxh64.hpp"

namespace cuda_zstd::detail {

/// What a warp works in: shared memory of a kernel, or a host thread's own memory.
template <class Env>
struct ChunkWorkspace {
    MatchTables<Env::warp_lanes> tables;
    BitStaging<Env> staging;
    FseTables fse;
};

/// Bytes of a frame around its block's content.
CUDA_ZSTD_INLINE std::uint32_t frame_overhead_bytes(std::uint32_t chunk_bytes, compression::ContentChecksum checksum) {
    return 4 + 1 +
           (chunk_bytes < 256     ? 1
            : chunk_bytes < 65792 ? 2
                                  : 4) +
           3 + (checksum == compression::ContentChecksum::present ? 4 : 0);
}

/// Copies the literals of all sequences to the output, in order. `tail_bytes` are those after the last sequence.
template <class Env, class Pool>
CUDA_ZSTD_HD void append_literals(Env& env, Pool& pool, const unsigned char* input,
                                  const PoolVector<Sequence, Env, Pool>& sequences, std::uint32_t tail_bytes,
                                  OutputList<Env, Pool>& output) {
    constexpr LaneMask warp = whole_warp<Env>;
    constexpr std::uint32_t lanes = Env::warp_lanes;
    const unsigned char* from = input;
    for (const auto* block = sequences.first(); block != nullptr; block = sequences.next(block)) {
        const Sequence* const elements = block->elements();
        const std::uint32_t count = sequences.count(block);
        if constexpr (lanes == 1) {
            for (std::uint32_t i = 0; i < count; ++i) {
                const std::uint32_t literals = elements[i].literal_length();
                output.append(env, pool, from, literals);
                from += literals + elements[i].match_length();
            }
        } else {
            for (std::uint32_t at = 0; at < count; at += lanes) {
                const bool mine = at + env.lane() < count;
                const Sequence sequence = mine ? elements[at + env.lane()] : Sequence{0};
                const std::uint32_t literals = sequence.literal_length();
                const std::uint32_t span = literals + sequence.match_length();
                const std::uint32_t source = env.warp_exclusive_sum(span);
                const std::uint32_t target = env.warp_exclusive_sum(literals);
                const std::uint32_t total = env.warp_sum(literals);
                // Each lane copies bytes lane, lane + lanes, ... of the batch: it finds the run that holds a byte by
                // bisection over the lanes' targets.
                for (std::uint32_t done = 0; done < total;) {
                    std::uint32_t room = 0;
                    unsigned char* const to = output.window(env, pool, room);
                    if (room == 0) return;
                    const std::uint32_t part = total - done < room ? total - done : room;
                    for (std::uint32_t row = 0; row < part; row += lanes) {
                        const std::uint32_t byte = done + row + env.lane();
                        std::uint32_t run = 0;
                        for (std::uint32_t stride = lanes / 2; stride != 0; stride /= 2) {
                            const std::uint32_t start = env.shfl(warp, target, run + stride);
                            if (start <= byte) run += stride;
                        }
                        const std::uint32_t run_source = env.shfl(warp, source, run);
                        const std::uint32_t run_target = env.shfl(warp, target, run);
                        if (row + env.lane() < part) to[row + env.lane()] = from[run_source + byte - run_target];
                    }
                    output.commit(part);
                    done += part;
                }
                from += env.warp_sum(span);
            }
        }
    }
    output.append(env, pool, from, tail_bytes);
}

/// Whether all literals are the same byte. Usually known after the first batch.
template <class Env, class Pool>
CUDA_ZSTD_HD bool literals_repeat(Env& env, const unsigned char* input,
                                  const PoolVector<Sequence, Env, Pool>& sequences, std::uint32_t tail_bytes,
                                  std::uint32_t first_literal) {
    constexpr LaneMask warp = whole_warp<Env>;
    constexpr std::uint32_t lanes = Env::warp_lanes;
    const unsigned char value = input[first_literal];
    const unsigned char* from = input;
    for (const auto* block = sequences.first(); block != nullptr; block = sequences.next(block)) {
        const std::uint32_t count = sequences.count(block);
        for (std::uint32_t at = 0; at < count; at += lanes) {
            const bool mine = at + env.lane() < count;
            const Sequence sequence = mine ? block->elements()[at + env.lane()] : Sequence{0};
            const std::uint32_t literals = sequence.literal_length();
            const std::uint32_t span = literals + sequence.match_length();
            const unsigned char* const own = from + env.warp_exclusive_sum(span);
            bool differs = false;
            for (std::uint32_t i = 0; i < literals && !differs; ++i)
                differs = own[i] != value;
            if (env.ballot(warp, differs) != 0) return false;
            from += env.warp_sum(span);
        }
    }
    return all_equal(env, from, tail_bytes, value, warp);
}

/// Little-endian bytes into `to`, by one lane; the number of bytes.
CUDA_ZSTD_INLINE std::uint32_t put_bytes(unsigned char* to, std::uint32_t value, std::uint32_t bytes) {
    for (std::uint32_t i = 0; i < bytes; ++i)
        to[i] = static_cast<unsigned char>(value >> (8 * i));
    return bytes;
}

/// A literals section header: raw (type 0) or repeated (type 1).
CUDA_ZSTD_INLINE std::uint32_t put_literals_header(unsigned char* to, std::uint32_t type, std::uint32_t bytes) {
    if (bytes < 32) return put_bytes(to, type | bytes << 3, 1);
    if (bytes < 4096) return put_bytes(to, type | 1u << 2 | bytes << 4, 2);
    return put_bytes(to, type | 3u << 2 | bytes << 4, 3);
}

/// A sequences section header: the count, and a byte that asks for predefined tables.
CUDA_ZSTD_INLINE std::uint32_t put_sequences_header(unsigned char* to, std::uint32_t count) {
    std::uint32_t bytes = 0;
    if (count < 128) {
        bytes = put_bytes(to, count, 1);
    } else if (count < 0x7F00) {
        to[0] = static_cast<unsigned char>((count >> 8) + 128);
        to[1] = static_cast<unsigned char>(count);
        bytes = 2;
    } else {
        to[0] = 255;
        bytes = 1 + put_bytes(to + 1, count - 0x7F00, 2);
    }
    return bytes + put_bytes(to + bytes, 0, 1);
}

/// Writes a frame's bytes before the block's content by one lane; their number, at most 12.
CUDA_ZSTD_INLINE std::uint32_t put_frame_header(unsigned char* to, std::uint32_t chunk_bytes,
                                                compression::ContentChecksum checksum, std::uint32_t block_type,
                                                std::uint32_t block_size) {
    const std::uint32_t size_code = chunk_bytes < 256 ? 0 : chunk_bytes < 65792 ? 1 : 2;
    std::uint32_t at = put_bytes(to, 0xFD2FB528u, 4);
    at += put_bytes(to + at, size_code << 6 | 1u << 5 | static_cast<std::uint32_t>(checksum) << 2, 1);
    at += put_bytes(to + at, size_code == 1 ? chunk_bytes - 256 : chunk_bytes, 1u << size_code);
    return at + put_bytes(to + at, 1u | block_type << 1 | block_size << 3, 3);
}

template <class Env, class Pool>
CUDA_ZSTD_HD void write_block(Env& env, Pool& pool, ChunkWorkspace<Env>& workspace, const unsigned char* input,
                              std::uint32_t bytes, compression::ChunkResult& result) {
    using compression::ChunkState;
    using Output = OutputList<Env, Pool>;
    constexpr LaneMask warp = whole_warp<Env>;
    MatchFinder<Env, Pool> finder(env, pool, workspace.tables, input, bytes);
    auto& sequences = finder.sequences();
    const bool found = finder.run();
    env.sync(warp);
    const std::uint32_t sequence_count = sequences.size();
    const auto list_bytes = static_cast<std::uint32_t>(sequences.held_bytes());
    result.scratch_bytes = list_bytes;
    result.sequence_count = sequence_count;
    if (!found || sequence_count == 0) {
        sequences.clear(env, pool);
        result.state = found ? ChunkState::stored : ChunkState::no_memory;
        return;
    }
    const std::uint32_t literals = finder.literal_bytes();
    const std::uint32_t tail = finder.tail_literal_bytes();
    bool repeat = false;
    if (literals > 1) {
        // The first literal is the first byte, unless the chunk begins with a match, which it cannot.
        repeat = literals_repeat(env, input, sequences, tail, 0);
    }
    const std::uint32_t expected = 8 + (repeat ? 1 : literals) + finder.estimated_sequence_bytes();
    if (expected > bytes + bytes / 8) {
        sequences.clear(env, pool);
        result.state = ChunkState::stored;
        return;
    }
    Output output(expected, bytes);
    auto* const header = reinterpret_cast<unsigned char*>(workspace.staging.words);
    if (env.lane() == 0) {
        const std::uint32_t at = put_literals_header(header, repeat ? 1 : 0, literals);
        if (repeat) header[at] = input[0];
    }
    env.sync(warp);
    const std::uint32_t literals_header_bytes = literals < 32 ? 1 : literals < 4096 ? 2 : 3;
    output.append(env, pool, header, literals_header_bytes + (repeat ? 1 : 0));
    if (!repeat) append_literals(env, pool, input, sequences, tail, output);
    env.sync(warp);
    if (env.lane() == 0) put_sequences_header(header, sequence_count);
    env.sync(warp);
    output.append(env, pool, header, (sequence_count < 128 ? 1 : sequence_count < 0x7F00 ? 2 : 3) + 1);
    env.sync(warp);
    // What the list and the output hold together is greatest about here.
    const std::uint32_t both_bytes = list_bytes + output.held_bytes();
    SequenceEncoder<Env, Pool>(env, pool, workspace.fse, workspace.staging, output).run(sequences);
    output.finish(env);
    result.scratch_bytes = both_bytes > output.held_bytes() ? both_bytes : output.held_bytes();
    if (output.state() == Output::State::good && output.bytes() < bytes) {
        result.state = ChunkState::compressed;
        result.output = output.first();
        result.content_bytes = output.bytes();
        return;
    }
    result.state = output.state() == Output::State::no_memory ? ChunkState::no_memory : ChunkState::stored;
    output.clear(env, pool);
}

/// Compresses chunk `index` of `args`, if it is still to be done. All lanes of the warp call.
template <class Env, class Pool>
CUDA_ZSTD_HD void compress_chunk(Env& env, Pool& pool, ChunkWorkspace<Env>& workspace,
                                 const compression::CompressArgs& args, std::uint32_t index) {
    using compression::ChunkState;
    constexpr LaneMask warp = whole_warp<Env>;
    compression::ChunkResult result = args.results[index];
    env.sync(warp);
    if (result.state != ChunkState::pending && result.state != ChunkState::no_memory) return;
    const compression::ChunkSpan chunk = args.chunks[index];
    const unsigned char* const input = args.input + chunk.offset;
    result.output = nullptr;
    result.content_bytes = chunk.bytes;
    const bool hash = args.checksum == compression::ContentChecksum::present && result.failed_attempts == 0;
    if (hash) result.checksum = static_cast<std::uint32_t>(Xxh64::hash(env, input, chunk.bytes, warp));
    if (chunk.bytes > 1 && all_equal(env, input, chunk.bytes, input[0], warp)) {
        result.state = ChunkState::repeated;
        result.content_bytes = 1;
    } else {
        write_block(env, pool, workspace, input, chunk.bytes, result);
    }
    if (result.state == ChunkState::no_memory) ++result.failed_attempts;
    result.frame_bytes = result.content_bytes + frame_overhead_bytes(chunk.bytes, args.checksum);
    if (env.lane() == 0) {
        args.results[index] = result;
        args.frame_offsets[index] = result.frame_bytes;
    }
    env.sync(warp);
}

/// Writes the frame of chunk `index` at its place in `packed` and frees its output. All lanes of the warp call.
template <class Env, class Pool>
CUDA_ZSTD_HD void gather_chunk(Env& env, Pool& pool, const compression::CompressArgs& args, unsigned char* packed,
                               std::uint32_t index) {
    using compression::ChunkState;
    const compression::ChunkResult result = args.results[index];
    const compression::ChunkSpan chunk = args.chunks[index];
    unsigned char* to = packed + args.frame_offsets[index];
    const unsigned char* const input = args.input + chunk.offset;
    const std::uint32_t type = result.state == ChunkState::compressed ? 2
                               : result.state == ChunkState::repeated ? 1
                                                                      : 0;
    const std::uint32_t checksum_bytes = args.checksum == compression::ContentChecksum::present ? 4 : 0;
    if (env.lane() == 0) {
        put_frame_header(to, chunk.bytes, args.checksum, type, type == 1 ? chunk.bytes : result.content_bytes);
        put_bytes(to + result.frame_bytes - checksum_bytes, result.checksum, checksum_bytes);
    }
    to += result.frame_bytes - checksum_bytes - result.content_bytes;
    if (type != 2) {
        copy_bytes(env, to, input, result.content_bytes);
        return;
    }
    for (const OutputBlock* block = result.output; block != nullptr; block = block->next) {
        copy_bytes(env, to, block->data(), block->bytes);
        to += block->bytes;
    }
    env.sync(whole_warp<Env>);
    free_output(env, pool, result.output);
    if (env.lane() == 0) args.results[index].output = nullptr;
}

} // namespace cuda_zstd::detail
