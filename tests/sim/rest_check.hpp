// SPDX-License-Identifier: MIT
// What must hold when a simulated program has ended: nothing is lost, who is refused is refused for a reason, and when
// all is freed all pages are there again.
// Invariant: whatever the program left live is freed here; a complaint is a text, no complaint an empty one.
#pragma once

#include "cuda_zstd/env/sim/schedule.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include "choices.hpp"
#include "ledger.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace cuda_zstd::test {

inline std::string check_rest(char* arena, const HeapLayout& layout, Ledger& ledger, sim::Random& draw) {
    std::string complaint = audit_at_rest(arena, layout, ledger);
    if (!complaint.empty()) return complaint;
    // Blocks left live: whoever is refused now must be refused for a reason.
    const auto solo = Heap<solo_env>::over(arena, layout);
    solo_env env;
    for (unsigned attempt = 0; attempt < 6; ++attempt) {
        const std::size_t bytes = draw_bytes(draw, draw.below(mixture_count));
        const bool possible = could_serve(arena, layout, bytes);
        Status status = Status::ok;
        void* const block = solo.allocate(env, 1, bytes, 16, status);
        const Status refusal = bytes > layout.payload_bytes() ? Status::invalid : Status::full;
        if (block == nullptr && status != refusal)
            return "at rest, " + std::to_string(bytes) + " B was refused with status " +
                   std::to_string(static_cast<unsigned>(status));
        if ((block != nullptr) != possible)
            return "at rest, " + std::to_string(bytes) + " B " + (possible ? "could" : "could not") +
                   " be served, and the heap said otherwise";
        if (block == nullptr) continue;
        complaint = ledger.take(block, bytes, 16);
        if (!complaint.empty()) return "at rest: " + complaint;
    }
    complaint = audit_at_rest(arena, layout, ledger);
    if (!complaint.empty()) return "after allocations at rest: " + complaint;
    while (ledger.live_count() != 0) {
        void* const block = solo.pages_base() + ledger.live().begin()->first;
        ledger.give_back(block);
        if (solo.deallocate(env, 1, block) != Status::ok) return "at rest, a good free was refused";
        if (solo.deallocate(env, 1, block) != Status::double_free) return "at rest, a double free was not told";
    }
    while (solo.supply().reclaim(env)) {
    }
    complaint = audit_at_rest(arena, layout, ledger);
    if (!complaint.empty()) return "after all was freed: " + complaint;
    if (solo.control(ControlCell::free_pages).value != layout.page_count)
        return "all was freed and reclaimed, but only " + std::to_string(solo.control(ControlCell::free_pages).value) +
               " of " + std::to_string(layout.page_count) + " pages are free";
    return {};
}

} // namespace cuda_zstd::test
