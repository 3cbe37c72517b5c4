// SPDX-License-Identifier: MIT
// What an audit of the device heap found.
// Invariant: plain data; `broken` is none if every invariant holds.
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <cstdint>

namespace cuda_zstd {

/// The invariants of a heap at rest.
enum class Invariant : std::uint32_t {
    none,
    no_refill_at_rest,               ///< no cursor is marked as being refilled
    lists_end,                       ///< no list runs in a circle
    lists_name_slabs_of_their_class, ///< what a cursor or a list names is a slab of its size class
    listed_slabs_are_reached_once,   ///< a slab is in one cursor or list if its word says so, else in none
    credits_are_in_reach,            ///< a slab that is in no cursor and no list has no free slot
    credits_are_free_slots,          ///< a slab's credits are its clear bits
    slots_belong_to_slabs,           ///< no bit is set but those of a slab's slots
    entries_match_slabs,             ///< the entry of each page of a slab says what the slab's word says
    free_pages_hold_nothing,         ///< a free page has no entry and no slab
    runs_are_whole,                  ///< the pages of a run are neither free nor anybody else's
    pages_have_owners,               ///< each page is free, a slab's or a run's
    no_move_at_rest,                 ///< no work on slabs or pages is under way
    free_pages_counted,              ///< the count of free pages is that of the map
    away_pages_hold_nothing,         ///< a page that no memory is behind is no slab's
    listed_slabs_counted,            ///< the count of a class's listed slabs is that of their words
};

struct AuditFinding {
    Invariant broken = Invariant::none;
    /// The page; for no_refill_at_rest and lists_end, size class * stations + station; for listed_slabs_counted, the
    /// size class.
    std::uint32_t where = 0;
    std::uint64_t expected = 0;
    std::uint64_t found = 0;

    explicit CUDA_ZSTD_HD operator bool() const { return broken == Invariant::none; }
};

/// The invariant as a sentence.
inline const char* name_of(Invariant invariant) {
    switch (invariant) {
    case Invariant::none:
        return "every invariant holds";
    case Invariant::no_refill_at_rest:
        return "a cursor is being refilled, at rest";
    case Invariant::no_move_at_rest:
        return "a slab or page is being moved, at rest";
    case Invariant::lists_end:
        return "a list runs in a circle";
    case Invariant::lists_name_slabs_of_their_class:
        return "a cursor or list names a slab of another class, or none";
    case Invariant::listed_slabs_are_reached_once:
        return "a slab is reached other than its listed bit says";
    case Invariant::credits_are_in_reach:
        return "a slab with credits is out of reach";
    case Invariant::credits_are_free_slots:
        return "a slab's credits differ from its clear bits";
    case Invariant::slots_belong_to_slabs:
        return "a bit is set that is no slot's";
    case Invariant::entries_match_slabs:
        return "a page's entry differs from its slab's word";
    case Invariant::free_pages_hold_nothing:
        return "a free page is in use";
    case Invariant::runs_are_whole:
        return "a page of a run is free or somebody else's";
    case Invariant::pages_have_owners:
        return "a page is neither free nor in use";
    case Invariant::free_pages_counted:
        return "the count of free pages differs from the map";
    case Invariant::away_pages_hold_nothing:
        return "a page without memory is in use";
    case Invariant::listed_slabs_counted:
        return "the count of listed slabs differs from their words";
    }
    return "an unknown invariant is broken";
}

} // namespace cuda_zstd
