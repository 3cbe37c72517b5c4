// SPDX-License-Identifier: MIT
// The shape of a simulated scenario, and the arena of a few pages that it runs on.
//
// Invariant: the arena lies at a fixed address, so that a trace shows the same pointers in each run; `reset` leaves a
// new heap in it, whatever the last run left.
#pragma once

#include "cuda_zstd/env/sim_env.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <sys/mman.h>

namespace cuda_zstd::test {

struct Scenario {
    unsigned warps = 2;
    unsigned lanes = 2;
    std::uint32_t pages = 4;
    unsigned processors = 1;
    unsigned slab_log2_pages = 0;
    /// Rounds of the program: each is an allocation, a free, a hand-over to another lane, or nothing.
    unsigned rounds = 6;
    sim::Shape::Processors processor_rule = sim::Shape::Processors::warp_bound;
    std::uint64_t step_limit = 3'000'000;
};

/// An arena at a fixed address whose heap can be reset to new at the cost of clearing the metadata of a few pages.
class TinyArena {
public:
    TinyArena() {
        void* const wanted = reinterpret_cast<void*>(std::uintptr_t{1} << 45);
        memory_ = mmap(wanted, arena_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (memory_ == MAP_FAILED) throw std::runtime_error("the simulator's arena cannot be mapped at 2^45");
    }
    TinyArena(const TinyArena&) = delete;
    TinyArena& operator=(const TinyArena&) = delete;
    ~TinyArena() { munmap(memory_, arena_bytes); }

    /// A new heap of `pages` pages. The layout is that of a large arena, of which only the first pages exist: so a
    /// heap of a few pages can have several cursors and slabs of several pages.
    HeapLayout reset(const Scenario& scenario) {
        HeapLayout layout = HeapLayout::for_arena(arena_bytes, scenario.processors);
        if (layout.slab_log2_pages < scenario.slab_log2_pages || layout.page_count < scenario.pages)
            throw std::invalid_argument("the scenario does not fit the simulator's arena");
        layout.slab_log2_pages = scenario.slab_log2_pages;
        layout.page_count = scenario.pages;
        clear(layout.control_offset, control_bytes);
        clear(layout.shared_cells_offset, layout.slab_words_offset - layout.shared_cells_offset);
        clear(layout.slab_words_offset, scenario.pages * sizeof(std::uint64_t));
        clear(layout.next_offset, scenario.pages * sizeof(std::uint32_t));
        clear(layout.page_entries_offset, scenario.pages * sizeof(std::uint32_t));
        clear(layout.slot_bits_offset, std::size_t{scenario.pages} * slot_words_per_page * sizeof(std::uint32_t));
        solo_env env;
        format_heap(env, base(), layout, 0, 1);
        return layout;
    }

    char* base() const { return static_cast<char*>(memory_); }

private:
    static constexpr std::size_t arena_bytes = std::size_t{1} << 30;
    void clear(std::size_t offset, std::size_t bytes) { std::memset(base() + offset, 0, bytes); }
    void* memory_;
};

} // namespace cuda_zstd::test
