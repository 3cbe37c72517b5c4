// SPDX-License-Identifier: MIT
// The heap's metadata at rest: audited, and checked against the blocks that are known to be live.
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/audit.hpp"
#include "ledger.hpp"

#include <vector>

namespace cuda_zstd::test {

namespace {

struct View {
    const std::uint64_t* words;
    const std::uint32_t* entries;
    const std::uint32_t* page_bits;
    const std::uint32_t* slot_bits;

    View(const char* arena, const HeapLayout& of)
        : words(reinterpret_cast<const std::uint64_t*>(arena + of.slab_words_offset)),
          entries(reinterpret_cast<const std::uint32_t*>(arena + of.page_entries_offset)),
          page_bits(reinterpret_cast<const std::uint32_t*>(arena + of.page_bits_offset)),
          slot_bits(reinterpret_cast<const std::uint32_t*>(arena + of.slot_bits_offset)) {}

    bool page_free(std::uint32_t page) const { return (page_bits[page / 32] >> (page % 32) & 1u) != 0; }
    bool slot_taken(std::uint32_t slab, std::uint32_t slot) const {
        return (slot_bits[std::size_t{slab} * slot_words_per_page + slot / 32] >> (slot % 32) & 1u) != 0;
    }
};

std::string of_page(const char* what, std::uint32_t page) { return what + (": page " + std::to_string(page)); }

} // namespace

std::string audit_at_rest(char* arena, const HeapLayout& layout, const Ledger& ledger) {
    const auto heap = Heap<solo_env>::over(arena, layout);
    solo_env env;
    std::vector<std::uint64_t> work(HeapAudit<solo_env>::work_bytes(layout.page_count) / sizeof(std::uint64_t) + 1);
    if (const AuditFinding finding = audit_heap(env, heap, work.data()); !finding)
        return std::string(name_of(finding.broken)) + ": " + std::to_string(finding.where) + ", expected " +
               std::to_string(finding.expected) + ", found " + std::to_string(finding.found);
    // The metadata agree with themselves; now with the ledger.
    const View view(arena, layout);
    std::size_t blocks = 0;
    for (std::uint32_t page = 0; page < layout.page_count; ++page) {
        const SlabWord word{view.words[page]};
        const PageEntry entry{view.entries[page]};
        const std::size_t offset = std::size_t{page} << page_shift;
        if (entry.is_run()) {
            const auto block = ledger.live().find(offset);
            if (block == ledger.live().end() || (block->second + page_bytes - 1) >> page_shift != entry.run_pages())
                return of_page("a run of pages is nobody's", page);
            ++blocks;
        }
        if (!entry.is_slab() || entry.pages_before() != 0) continue;
        for (std::uint32_t slot = 0; slot < word.slots(); ++slot) {
            const bool live = ledger.live().count(offset + std::size_t{slot} * slot_bytes_of(word.size_class())) != 0;
            if (live != view.slot_taken(page, slot))
                return of_page("a slot's bit is wrong", page) + ", slot " + std::to_string(slot);
            blocks += live;
        }
    }
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
