// SPDX-License-Identifier: MIT
// The live blocks of a heap by size class.
// Invariant: counts what the slabs' own words and the page map say, so it is exact for a heap at rest. Workers share
// out the pages; a barrier separates the steps: begin, count_live, conclude.
#pragma once

#include "cuda_zstd/core/size_class.hpp"
#include "cuda_zstd/heap/survey.hpp"

#include <cstdint>

namespace cuda_zstd {

/// In a hardened build, slots with what is kept around a block, and those in quarantine among them.
struct LiveCensus {
    std::uint64_t blocks[size_class_count] = {}; ///< by size class: slot_bytes_of
    std::uint64_t runs = 0;                      ///< blocks of whole pages
    std::uint64_t run_bytes = 0;

    std::uint64_t all_blocks() const {
        std::uint64_t all = runs;
        for (const std::uint64_t some : blocks)
            all += some;
        return all;
    }
};

/// What the workers count together.
template <class Env>
struct CensusTally {
    typename Env::template atom<std::uint64_t> blocks[size_class_count];
    typename Env::template atom<std::uint64_t> runs;
    typename Env::template atom<std::uint64_t> run_bytes;

    CUDA_ZSTD_HD void begin(Env& env, std::uint32_t worker, std::uint32_t workers) {
        for (std::uint32_t at = worker; at < size_class_count; at += workers)
            env.store(blocks[at], std::uint64_t{0}, Order::relaxed);
        if (worker != 0) return;
        env.store(runs, std::uint64_t{0}, Order::relaxed);
        env.store(run_bytes, std::uint64_t{0}, Order::relaxed);
    }

    CUDA_ZSTD_HD void count_live(Env& env, const Heap<Env>& heap, std::uint32_t worker, std::uint32_t workers) {
        const std::uint32_t pages = heap.supply().pages.pages_now(env);
        for (std::uint32_t page = worker; page < pages; page += workers) {
            unsigned size_class = size_class_count;
            const HeapSums sums = survey_page(env, heap, page, [&](unsigned own, unsigned) { size_class = own; });
            if (sums.live_blocks == 0) continue;
            if (size_class < size_class_count) {
                env.fetch_add(blocks[size_class], sums.live_blocks, Order::relaxed);
            } else {
                env.fetch_add(runs, sums.live_blocks, Order::relaxed);
                env.fetch_add(run_bytes, sums.live_bytes, Order::relaxed);
            }
        }
    }

    /// By one worker.
    CUDA_ZSTD_HD void conclude(Env& env, LiveCensus& to) const {
        for (std::uint32_t at = 0; at < size_class_count; ++at)
            to.blocks[at] = env.load(blocks[at], Order::relaxed);
        to.runs = env.load(runs, Order::relaxed);
        to.run_bytes = env.load(run_bytes, Order::relaxed);
    }
};

} // namespace cuda_zstd
