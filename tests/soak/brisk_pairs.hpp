// SPDX-License-Identifier: MIT
// Brisk pairs: most of a soak's pairs. Small blocks with marks (marks.hpp), several alive in each thread, at a cost of
// a dozen accesses of 16 B to memory beside the heap's own.
//
// Invariant: as in random_pairs.hpp: every block that a thread gets is marked, and is then held, put into a mailbox, or
// verified and freed; none is dropped. What thread `thread` draws in step `step` follows from the seed and the launch,
// whatever `steps` is.
#pragma once

#include "cuda_zstd/env/whole_warp.hpp"
#include "tests/soak/mailbox.hpp"

namespace cuda_zstd::soak {

/// Sizes from 2^first to 2^(first + count), the logarithm first: of 16 B and of 4 KiB there are as many.
struct LogSizes {
    std::uint32_t first = 0, count = 12;

    /// From 32 random bits.
    CUDA_ZSTD_HD std::uint32_t pick(std::uint32_t number) const {
        const std::uint32_t log2 = first + (number >> 24) * count / 256u;
        return (1u << log2) + static_cast<std::uint32_t>(std::uint64_t{number & 0xffffffu} * ((1u << log2) + 1u) >> 24);
    }
};

template <class Env>
struct BriskPairs {
    /// Blocks of a thread that live at the same time.
    static constexpr unsigned held_count = 4;

    Mailbox<Env>* boxes;
    std::uint32_t box_count; ///< at most 2^24
    Tally<Env>* tally;
    std::uint64_t seed;
    std::uint64_t launch; ///< its number in the run; below 2^23
    std::uint32_t steps;  ///< of a thread; below 2^18
    LogSizes sizes;

    /// `Pool` has the try_allocate and try_deallocate of BasicPoolRef. All lanes of a warp are given to it.
    template <class Pool>
    CUDA_ZSTD_HD void operator()(Env& env, const Pool& pool, unsigned thread) const {
        const std::uint64_t of_launch = mix(mix(seed) ^ launch);
        Random own(of_launch ^ mix(std::uint64_t{thread} << 32));
        Random of_warp(mix(~of_launch) ^ mix(std::uint64_t{thread / Env::warp_lanes} << 32));
        Counts counts;
        Block held[held_count] = {};
        for (std::uint32_t step = 0; step < steps; ++step) {
            if (sits_out(env, of_warp)) continue;
            const std::uint64_t number = own.next();
            // Any of those held goes, so a block lives for few steps or for many. Constant places stay in registers.
            const auto turn = static_cast<unsigned>(number % held_count);
            Block block{nullptr, 0, 0};
            for (unsigned place = 0; place < held_count; ++place)
                if (place == turn) block = held[place];
            Mailbox<Env>& box = boxes[(number >> 8 & 0xffffffu) * box_count >> 24];
            const bool posts = (number >> 2 & 7u) == 0, fetches = (number >> 5 & 7u) == 0;
            if (block.address != nullptr && !(posts && put(env, box, block))) retire(env, pool, tally, block, counts);
            block.address = nullptr;
            if (!(fetches && take(env, box, block)))
                block = obtain(env, pool, sizes.pick(static_cast<std::uint32_t>(number >> 32)),
                               marks_ticket_of(launch, thread, step), counts);
            for (unsigned place = 0; place < held_count; ++place)
                if (place == turn) held[place] = block;
        }
        for (const Block& block : held)
            if (block.address != nullptr) retire(env, pool, tally, block, counts);
        env.sync(whole_warp<Env>);
        add_up(env, tally, counts);
    }
};

} // namespace cuda_zstd::soak
