// SPDX-License-Identifier: MIT
// Blocks above 32 KiB: runs of whole pages.
//
// Invariant: the entry of a run's first page says how many pages it has, and its inner pages hold no entry, from the
// claim until the compare-and-swap that frees it; so of two who free one run, one is told.
//
// Progress: lock-free, but for the wait for a reclaimer (SlabReclaim).
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/core/status.hpp"
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/heap/page_entry.hpp"
#include "cuda_zstd/heap/reclaim.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// Turns through all sources before a request ends in `contended`.
inline constexpr unsigned supply_turns = 64;
/// No run of pages was found, but others moved some meanwhile.
inline constexpr std::uint32_t no_page_now = no_page - 1;

template <class Env>
struct PageRuns : SlabReclaim<Env> {
    using Shelf = SlabShelf<Env>;
    using Shelf::pages, Shelf::stations;

    /// A run of whole pages for `bytes`: its first page, or no_page (there is none), or no_page_now (contended). Cost:
    /// four atomics up to 2 MiB as a rule, else a pass over the page map and an atomic for each 32 pages.
    static CUDA_ZSTD_RARE std::uint32_t claim_run_rarely(const PageRuns* runs, PassedEnv<Env> env, std::size_t bytes) {
        // What begins at a multiple of its size and lies in one word of the map is mostly where the rover is.
        const std::uint32_t count = pages_for(bytes);
        const std::uint32_t page = count <= 32u && is_power_of_two(count) ? runs->place_at_rover(env, count) : no_page;
        if (page != no_page && runs->pages.seems_free(env, page, count)) {
            runs->stations.begin_move(env);
            const bool is_mine = runs->pages.claim_at(env, page, count);
            if (is_mine) env.store(runs->entries[page], PageEntry::of_run(count).raw, Order::relaxed);
            runs->stations.end_move(env);
            if (is_mine) return page;
        }
        return runs->claim_run(env, bytes);
    }
    CUDA_ZSTD_RARE std::uint32_t claim_run(PassedEnv<Env> env, std::size_t bytes) const {
        const std::uint32_t count = pages_for(bytes);
        std::uint64_t before = 0;
        for (unsigned turn = 0; turn < supply_turns; ++turn) {
            // The first turn as a rule needs no proof; but a heap with too few pages is left alone, since a move here
            // would keep all others that are refused from proving it.
            if (turn == 0 ? pages.may_have(env, count) : pages.has_run(env, count)) {
                stations.begin_move(env);
                const std::uint32_t page = this->claim_pages(env, count, ClaimEffort::search);
                stations.end_move(env);
                if (page != no_page) {
                    env.store(this->entries[page], PageEntry::of_run(count).raw, Order::relaxed);
                    return page;
                }
            } else if (!this->reclaim(env) && !Stations::any_under_way(before) && stations.all_moves(env) == before) {
                return no_page;
            }
            if (turn > 1) env.pause(turn);
            before = stations.all_moves(env);
        }
        return no_page_now;
    }

    /// Gives back the run that begins at `page`, whose entry was read as `entry`.
    CUDA_ZSTD_RARE Status release_run(PassedEnv<Env> env, std::uint32_t page, PageEntry entry) const {
        if (!env.compare_exchange(this->entries[page], entry.raw, 0u, Order::acq_rel)) return Status::double_free;
        pages.release(env, page, entry.run_pages(), Rovers<Env>{});
        return Status::ok;
    }

private:
    static CUDA_ZSTD_INLINE std::uint32_t pages_for(std::size_t bytes) {
        return static_cast<std::uint32_t>((bytes + (page_bytes - 1)) >> page_shift);
    }
};

} // namespace cuda_zstd
