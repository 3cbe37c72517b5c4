// SPDX-License-Identifier: MIT
// What compactions and surveys of one heap work in: a piece of device memory that its pool has from its construction,
// so that a compaction allocates nothing.
//
// Invariant: zero before the first use. `owner` names the launch that the area belongs to, from its first kernel to its
// last; a launch that finds another's name there does nothing. Launches of one pool are ordered by the host, so that
// happens only to those in graphs, which run when their owner likes.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/env/atom.hpp"
#include "cuda_zstd/heap/compact_order.hpp"
#include "cuda_zstd/heap/layout.hpp"
#include "cuda_zstd/heap/survey.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// Sums over a stretch of pages.
struct SurveyPart {
    HeapSums sums;
    FreeRuns runs;
};
/// Stretches of a survey.
inline constexpr std::uint32_t most_survey_parts = 512;

struct CompactionState {
    Atom<std::uint32_t> owner;
    Atom<std::uint32_t> compactions;   ///< that have ended
    Atom<std::uint64_t> sequence;      ///< reports published
    Atom<std::uint32_t> retired_slabs; ///< by the compaction under way, or the last one
    // The online form: it goes on where it stopped.
    Atom<std::uint32_t> first_list; ///< the list that the compaction under way began with
    Atom<std::uint32_t> lists;      ///< given out to workers
    Atom<std::uint32_t> stopped_at; ///< the first of those that was left out since the budget was spent
    Atom<std::uint32_t> slabs;      ///< taken off their lists
    // Counts of the quiet form.
    Atom<std::uint32_t> ranked[size_class_count];    ///< slabs that are to be listed
    Atom<std::uint32_t> in_cursor[size_class_count]; ///< slabs that stay in cursors
    // Counts of a survey.
    Atom<std::uint32_t> by_class[size_class_count];
    Atom<std::uint32_t> by_fill[fill_class_count];
    Atom<std::uint32_t> free_chunks;
};

/// The work area: offsets from its start, for a heap of a number of pages.
struct CompactionWork {
    char* base = nullptr;
    std::uint32_t page_count = 0;
    std::size_t sort_bytes = 0; ///< what the sort wants for itself

    CUDA_ZSTD_INLINE CompactionState& state() const { return *reinterpret_cast<CompactionState*>(base); }
    CUDA_ZSTD_INLINE SurveyPart* parts() const { return reinterpret_cast<SurveyPart*>(base + parts_offset); }
    /// Slabs as they lie in the heap, and in order; with the rank of each.
    CUDA_ZSTD_INLINE std::uint32_t* slabs() const { return reinterpret_cast<std::uint32_t*>(base + arrays_offset); }
    CUDA_ZSTD_INLINE std::uint32_t* sorted_slabs() const { return slabs() + stride(); }
    CUDA_ZSTD_INLINE std::uint16_t* ranks() const { return reinterpret_cast<std::uint16_t*>(slabs() + 2 * stride()); }
    CUDA_ZSTD_INLINE std::uint16_t* sorted_ranks() const { return ranks() + stride(); }
    CUDA_ZSTD_INLINE void* sort_area() const { return base + sort_offset(); }
    std::size_t bytes() const { return sort_offset() + sort_bytes; }

private:
    static constexpr std::size_t parts_offset = (sizeof(CompactionState) + 127) / 128 * 128;
    static constexpr std::size_t arrays_offset =
        (parts_offset + most_survey_parts * sizeof(SurveyPart) + 127) / 128 * 128;

    CUDA_ZSTD_INLINE std::size_t stride() const { return round_up<std::size_t>(page_count, 128); }
    CUDA_ZSTD_INLINE std::size_t sort_offset() const {
        return arrays_offset + stride() * 2 * (sizeof(std::uint32_t) + sizeof(std::uint16_t));
    }
};

/// The first step of a launch, by one thread: whether the work area is the launch's. Begins the counts anew.
template <class Env>
CUDA_ZSTD_HD bool begin_launch(Env& env, const CompactionWork& work, std::uint32_t launch, std::uint32_t list_count) {
    CompactionState& state = work.state();
    std::uint32_t nobody = 0;
    if (!env.compare_exchange(state.owner, nobody, launch, Order::acq_rel)) return false;
    const auto least = [](std::uint32_t a, std::uint32_t b) { return a < b ? a : b; };
    const std::uint32_t given = env.load(state.lists, Order::relaxed);
    const std::uint32_t visited = least(least(given, env.load(state.stopped_at, Order::relaxed)), list_count);
    env.store(state.first_list, (env.load(state.first_list, Order::relaxed) + visited) % list_count, Order::relaxed);
    env.store(state.lists, 0u, Order::relaxed);
    env.store(state.stopped_at, 0xffffffffu, Order::relaxed);
    env.store(state.slabs, 0u, Order::relaxed);
    env.store(state.free_chunks, 0u, Order::relaxed);
    for (unsigned index = 0; index < size_class_count; ++index) {
        env.store(state.ranked[index], 0u, Order::relaxed);
        env.store(state.in_cursor[index], 0u, Order::relaxed);
        env.store(state.by_class[index], 0u, Order::relaxed);
    }
    for (unsigned index = 0; index < fill_class_count; ++index)
        env.store(state.by_fill[index], 0u, Order::relaxed);
    return true;
}

/// Whether the work area is the launch's, in a later step of it.
template <class Env>
CUDA_ZSTD_HD bool is_owner(Env& env, const CompactionWork& work, std::uint32_t launch) {
    return env.load(work.state().owner, Order::acquire) == launch;
}

/// The last step of a launch, by one thread, behind all others.
template <class Env>
CUDA_ZSTD_HD void end_launch(Env& env, const CompactionWork& work) {
    env.store(work.state().owner, 0u, Order::release);
}

} // namespace cuda_zstd
