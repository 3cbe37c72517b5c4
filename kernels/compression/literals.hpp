// SPDX-License-Identifier: MIT
// The literals section: the bytes of the chunk that no match covers, as they are.
// Invariant: literals are appended in the order of the input, each once.
#pragma once

#include "output_list.hpp"
#include "sequence.hpp"

#include "cuda_zstd/device/warp_pool_vector.hpp"

namespace cuda_zstd::detail {

/// Copies the literals of all sequences to the output, in order. `tail_bytes` are those after the last sequence.
template <class Env, class Pool>
CUDA_ZSTD_HD void append_literals(Env& env, Pool& pool, const unsigned char* input,
                                  const WarpPoolVector<Sequence, Env, Pool>& sequences, std::uint32_t tail_bytes,
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

} // namespace cuda_zstd::detail
