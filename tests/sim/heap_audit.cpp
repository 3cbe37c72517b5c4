// SPDX-License-Identifier: MIT
// The heap's metadata at rest, checked against the blocks that are known to be live.
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/heap.hpp"
#include "ledger.hpp"

#include <vector>

namespace cuda_zstd::test {

namespace {

struct View {
    const std::uint64_t* words;
    const std::uint32_t* next;
    const std::uint32_t* entries;
    const std::uint32_t* page_bits;
    const std::uint32_t* slot_bits;
    Stations stations;
    const HeapLayout& layout;

    View(const char* arena, const HeapLayout& of)
        : words(reinterpret_cast<const std::uint64_t*>(arena + of.slab_words_offset)),
          next(reinterpret_cast<const std::uint32_t*>(arena + of.next_offset)),
          entries(reinterpret_cast<const std::uint32_t*>(arena + of.page_entries_offset)),
          page_bits(reinterpret_cast<const std::uint32_t*>(arena + of.page_bits_offset)),
          slot_bits(reinterpret_cast<const std::uint32_t*>(arena + of.slot_bits_offset)),
          stations{const_cast<char*>(arena) + of.stations_offset, of.stations, of.station_scale}, layout(of) {}

    bool page_free(std::uint32_t page) const { return (page_bits[page / 32] >> (page % 32) & 1u) != 0; }
    std::uint32_t taken_slots(std::uint32_t slab, std::uint32_t slots) const {
        std::uint32_t taken = 0;
        for (std::uint32_t slot = 0; slot < slots; ++slot)
            taken += slot_taken(slab, slot);
        return taken;
    }
    bool slot_taken(std::uint32_t slab, std::uint32_t slot) const {
        return (slot_bits[std::size_t{slab} * slot_words_per_page + slot / 32] >> (slot % 32) & 1u) != 0;
    }
    std::uint64_t cell(unsigned size_class, unsigned station, Stations::Part part) const {
        return stations.cell<solo_env>(size_class, station, part)->value;
    }
};

std::string of_page(const char* what, std::uint32_t page) { return what + (": page " + std::to_string(page)); }

/// How often each slab can be reached, from cursors and lists; a complaint if a list is broken.
std::string count_reaches(const View& view, std::vector<unsigned>& reaches) {
    for (unsigned size_class = 0; size_class < size_class_count; ++size_class) {
        const auto reach = [&](std::uint32_t slab) -> std::string {
            if (slab >= view.layout.page_count) return of_page("a cursor or list names no page", slab);
            const SlabWord word{view.words[slab]};
            if (!word.is_slab() || word.size_class() != size_class)
                return of_page("a cursor or list names a slab of another class, or none", slab);
            ++reaches[slab];
            return {};
        };
        for (unsigned station = 0; station < view.layout.stations; ++station) {
            const Cursor cursor{view.cell(size_class, station, Stations::cursor)};
            if (cursor.busy()) return "a cursor is busy, at rest";
            for (const std::uint32_t slab_plus_1 : {cursor.current_plus_1(), cursor.next_plus_1()})
                if (slab_plus_1 != 0)
                    if (std::string bad = reach(slab_plus_1 - 1); !bad.empty()) return bad;
            auto link = static_cast<std::uint32_t>(view.cell(size_class, station, Stations::list));
            for (std::uint32_t length = 0; link != 0; link = view.next[link - 1]) {
                if (++length > view.layout.page_count) return "a list runs in a circle";
                if (std::string bad = reach(link - 1); !bad.empty()) return bad;
            }
        }
    }
    return {};
}

} // namespace

std::string audit_at_rest(char* arena, const HeapLayout& layout, const Ledger& ledger) {
    const View view(arena, layout);
    std::vector<unsigned> reaches(layout.page_count, 0);
    if (std::string bad = count_reaches(view, reaches); !bad.empty()) return bad;
    std::uint32_t free_pages = 0;
    std::size_t blocks = 0;
    for (std::uint32_t page = 0; page < layout.page_count;) {
        const SlabWord word{view.words[page]};
        const std::size_t offset = std::size_t{page} << page_shift;
        if (view.page_free(page)) {
            if (word.is_slab() || word.credits() != 0 || word.listed()) return of_page("a free page is a slab", page);
            ++free_pages;
            ++page;
            continue;
        }
        if (!word.is_slab()) {
            const PageEntry entry{view.entries[page]};
            if (!entry.is_run()) return of_page("a page is neither free nor in use", page);
            const std::uint32_t count = entry.run_pages();
            const auto block = ledger.live().find(offset);
            if (block == ledger.live().end() || (block->second + page_bytes - 1) >> page_shift != count)
                return of_page("a run of pages is nobody's", page);
            ++blocks;
            page += count;
            continue;
        }
        const std::uint32_t slots = word.slots();
        const std::uint32_t taken = view.taken_slots(page, slots);
        if (word.credits() != static_cast<std::int32_t>(slots - taken))
            return of_page("credits differ from the clear bits", page) + ": " + std::to_string(word.credits()) +
                   " credits, " + std::to_string(taken) + " of " + std::to_string(slots) + " slots taken";
        if (reaches[page] != (word.listed() ? 1u : 0u))
            return of_page("a slab is reached other than its listed bit says", page) + ": " +
                   std::to_string(reaches[page]) + " times, credits " + std::to_string(word.credits());
        if (!word.listed() && word.credits() != 0) return of_page("a slab with credits is out of reach", page);
        for (std::uint32_t i = 0; i < word.pages(); ++i)
            if (view.entries[page + i] != PageEntry::of_slab(word.size_class(), word.log2_pages(), i).raw ||
                view.page_free(page + i))
                return of_page("a page of a slab does not say so", page + i);
        for (std::uint32_t slot = 0; slot < slots; ++slot) {
            const bool live = ledger.live().count(offset + std::size_t{slot} * slot_bytes_of(word.size_class())) != 0;
            if (live != view.slot_taken(page, slot))
                return of_page("a slot's bit is wrong", page) + ", slot " + std::to_string(slot);
            blocks += live;
        }
        page += word.pages();
    }
    const auto heap = Heap<solo_env>::over(arena, layout);
    if (heap.control(ControlCell::free_pages).value != free_pages)
        return "the count of free pages is " +
               std::to_string(static_cast<std::int32_t>(heap.control(ControlCell::free_pages).value)) +
               ", the map has " + std::to_string(free_pages);
    solo_env env;
    if (Stations::any_under_way(view.stations.all_moves(env))) return "a move is under way, at rest";
    if (blocks != ledger.live_count()) return "a live block is in no slab and no run";
    return {};
}

bool could_serve(char* arena, const HeapLayout& layout, std::size_t bytes) {
    const View view(arena, layout);
    const std::uint32_t wanted_pages =
        bytes > max_slot_bytes ? static_cast<std::uint32_t>((bytes + page_bytes - 1) >> page_shift) : 1u;
    std::uint32_t run = 0;
    std::uint32_t empty_until = 0; // end of the empty slab that the walk is in
    for (std::uint32_t page = 0; page < layout.page_count; ++page) {
        const SlabWord word{view.words[page]};
        if (word.is_slab()) {
            if (bytes <= max_slot_bytes && word.credits() > 0 &&
                word.size_class() == size_class_of(static_cast<std::uint32_t>(bytes)))
                return true;
            if (word.all_free()) empty_until = page + word.pages();
        }
        run = view.page_free(page) || page < empty_until ? run + 1 : 0;
        if (run >= wanted_pages) return true;
    }
    return false;
}

} // namespace cuda_zstd::test
