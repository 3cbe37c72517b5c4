// SPDX-License-Identifier: MIT
// Compresses one chunk into the content of one zstd block (RFC 8878, section 3.1.1.3).
//
// Invariant: a compressed block is strictly smaller than the chunk. Of the pool, only the output list of a compressed
// chunk outlives `write_block`; every other path has freed what it took.
#pragma once

#include "frame.hpp"
#include "literals.hpp"
#include "match_finder.hpp"
#include "sequence_encoder.hpp"

namespace cuda_zstd::detail {

/// What a warp works in: shared memory of a kernel, or a host thread's own memory.
template <class Env>
struct ChunkWorkspace {
    MatchTables<Env::warp_lanes> tables;
    BitStaging<Env> staging;
    FseTables fse;
};

/// Sets the result's state, output, content_bytes (of a compressed block), counts and scratch. All lanes call.
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
    const std::uint32_t list_bytes = sequences.held_bytes();
    result.scratch_bytes = list_bytes;
    result.sequence_count = sequence_count;
    if (!found || sequence_count == 0) {
        sequences.clear(env, pool);
        result.state = found ? ChunkState::stored : ChunkState::no_memory;
        return;
    }
    const std::uint32_t literals = finder.literal_bytes();
    const std::uint32_t expected = 8 + literals + finder.estimated_sequence_bytes();
    if (expected > bytes + bytes / 8) {
        sequences.clear(env, pool);
        result.state = ChunkState::stored;
        return;
    }
    Output output(expected, bytes);
    auto* const header = reinterpret_cast<unsigned char*>(workspace.staging.words);
    if (env.lane() == 0) put_literals_header(header, literals);
    env.sync(warp);
    output.append(env, pool, header, literals < 32 ? 1 : literals < 4096 ? 2 : 3);
    append_literals(env, pool, input, sequences, finder.tail_literal_bytes(), output);
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

} // namespace cuda_zstd::detail
