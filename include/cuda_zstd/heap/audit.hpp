// SPDX-License-Identifier: MIT
// The audit: every invariant of a heap's metadata, checked, and the first that is broken named.
//
// Invariant: reads the heap and writes only its own work area. For a heap at rest: beside allocations and frees, what
// it reports may be a call on its way. The steps are shared out over any number of workers; between two steps all of
// them must be done (a barrier), and what a step wrote must be visible to the next.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/heap/audit_finding.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// The audit of one heap. Cost: one pass over the metadata, and one over the lists. `work` has work_bytes().
template <class Env>
class HeapAudit {
public:
    template <class T>
    using atom = typename Env::template atom<T>;

    CUDA_ZSTD_HD HeapAudit(const Heap<Env>& heap, void* work)
        : heap_(heap), supply_(heap.supply()), work_(static_cast<Work*>(work)),
          reaches_(reinterpret_cast<atom<std::uint32_t>*>(work_ + 1)) {}

    static constexpr std::size_t work_bytes(std::uint32_t page_count) {
        return sizeof(Work) + std::size_t{page_count} * sizeof(atom<std::uint32_t>);
    }

    /// Step 1: the work area.
    CUDA_ZSTD_HD void begin(Env& env, std::uint32_t worker, std::uint32_t workers) const {
        for (std::uint32_t page = worker; page < page_count(); page += workers)
            env.store(reaches_[page], 0u, Order::relaxed);
        if (worker != 0) return;
        env.store(work_->first, nothing_broken, Order::relaxed);
        env.store(work_->free_pages, 0u, Order::relaxed);
        env.store(work_->owned_pages, 0u, Order::relaxed);
        for (auto& listed : work_->listed)
            env.store(listed, 0u, Order::relaxed);
    }

    /// Step 2: cursors and lists; counts how often each slab can be reached.
    CUDA_ZSTD_HD void follow_lists(Env& env, std::uint32_t worker, std::uint32_t workers) const {
        const std::uint32_t stations = supply_.stations.count;
        for (std::uint32_t index = worker; index < size_class_count * stations; index += workers) {
            const unsigned size_class = index / stations;
            const Cursor cursor{env.load(supply_.cursor_of(size_class, index % stations), Order::relaxed)};
            if (cursor.busy()) report(env, {Invariant::no_refill_at_rest, index, 0, 1});
            if (cursor.current_plus_1() != 0) reach(env, size_class, cursor.current_plus_1() - 1u);
            if (cursor.next_plus_1() != 0) reach(env, size_class, cursor.next_plus_1() - 1u);
            const auto list = supply_.list_of(size_class, index % stations);
            auto link = static_cast<std::uint32_t>(env.load(*list.head, Order::relaxed));
            for (std::uint32_t length = 0; link != 0; ++length) {
                if (length == page_count()) {
                    report(env, {Invariant::lists_end, index, 0, length});
                    break;
                }
                if (!reach(env, size_class, link - 1u)) break;
                link = env.load(supply_.next[link - 1u], Order::relaxed);
            }
        }
    }

    /// Step 3: pages and slabs.
    CUDA_ZSTD_HD void check_pages(Env& env, std::uint32_t worker, std::uint32_t workers) const {
        std::uint32_t free_pages = 0;
        std::uint32_t owned_pages = 0;
        for (std::uint32_t page = worker; page < page_count(); page += workers) {
            const AuditFinding finding = check_page(env, page);
            if (finding.broken != Invariant::none) report(env, finding);
            const PageEntry entry{env.load(supply_.entries[page], Order::relaxed)};
            free_pages += is_free(env, page);
            owned_pages += entry.is_slab() || entry.is_away() ? 1 : entry.is_run() ? entry.run_pages() : 0;
            const SlabWord own = word(env, page);
            if (own.is_slab() && own.listed() && own.size_class() < size_class_count)
                env.fetch_add(work_->listed[own.size_class()], 1u, Order::relaxed);
        }
        env.fetch_add(work_->free_pages, free_pages, Order::relaxed);
        env.fetch_add(work_->owned_pages, owned_pages, Order::relaxed);
    }

    /// Step 4, for one worker: the finding on the lowest page.
    CUDA_ZSTD_HD AuditFinding conclude(Env& env) const {
        const std::uint64_t first = env.load(work_->first, Order::relaxed);
        if (first != nothing_broken) {
            const auto where = static_cast<std::uint32_t>(first >> 8);
            const auto broken = static_cast<Invariant>(first & 0xffu);
            if (where < page_count()) {
                const AuditFinding again = check_page(env, where);
                if (again.broken == broken) return again;
            }
            return {broken, where, 0, 0};
        }
        const std::uint32_t free_pages = env.load(work_->free_pages, Order::relaxed);
        const std::uint32_t owned_pages = env.load(work_->owned_pages, Order::relaxed);
        if (free_pages + owned_pages != page_count())
            return {Invariant::pages_have_owners, ownerless_page(env), page_count(), free_pages + owned_pages};
        const std::uint32_t counted = env.load(heap_.control(ControlCell::free_pages), Order::relaxed);
        if (counted != free_pages) return {Invariant::free_pages_counted, 0, free_pages, counted};
        for (unsigned size_class = 0; size_class < size_class_count; ++size_class) {
            const std::uint32_t found = env.load(work_->listed[size_class], Order::relaxed);
            const std::uint32_t claimed =
                env.load(supply_.stations.template listed_count<Env>(size_class), Order::relaxed);
            if (claimed != found) return {Invariant::listed_slabs_counted, size_class, found, claimed};
        }
        const std::uint64_t moves = supply_.stations.all_moves(env);
        if (Stations::any_under_way(moves))
            return {Invariant::no_move_at_rest, 0, 0, static_cast<std::uint32_t>(moves)};
        return {};
    }

private:
    struct Work {
        atom<std::uint64_t> first; ///< place << 8 | invariant, the smallest
        atom<std::uint32_t> free_pages;
        atom<std::uint32_t> owned_pages;
        atom<std::uint32_t> listed[size_class_count];
    };
    static constexpr std::uint64_t nothing_broken = ~std::uint64_t{0};

    CUDA_ZSTD_HD std::uint32_t page_count() const { return supply_.pages.page_count; }
    CUDA_ZSTD_HD SlabWord word(Env& env, std::uint32_t page) const {
        return SlabWord{env.load(supply_.slabs.words[page], Order::relaxed)};
    }
    CUDA_ZSTD_HD bool is_free(Env& env, std::uint32_t page) const {
        return (env.load(supply_.pages.bits[page / 32u], Order::relaxed) >> (page % 32u) & 1u) != 0;
    }

    CUDA_ZSTD_HD void report(Env& env, const AuditFinding& finding) const {
        env.fetch_min(work_->first, std::uint64_t{finding.where} << 8 | static_cast<std::uint64_t>(finding.broken),
                      Order::relaxed);
    }

    /// Counts that a cursor or list of the class names the page. False if it must not.
    CUDA_ZSTD_HD bool reach(Env& env, unsigned size_class, std::uint32_t page) const {
        const bool right =
            page < page_count() && word(env, page).is_slab() && word(env, page).size_class() == size_class;
        if (right)
            env.fetch_add(reaches_[page], 1u, Order::relaxed);
        else
            report(env, {Invariant::lists_name_slabs_of_their_class, page, 0, 0});
        return right;
    }

    CUDA_ZSTD_HD AuditFinding check_page(Env& env, std::uint32_t page) const {
        const PageEntry entry{env.load(supply_.entries[page], Order::relaxed)};
        const SlabWord own = word(env, page);
        if (is_free(env, page)) {
            if (entry.raw != 0) return {Invariant::free_pages_hold_nothing, page, 0, entry.raw};
            if (own.is_slab() || own.listed() || own.credits() != 0)
                return {Invariant::free_pages_hold_nothing, page, 0, own.raw};
            return check_no_slots(env, page);
        }
        if (entry.is_away() && (own.listed() || own.credits() != 0))
            return {Invariant::away_pages_hold_nothing, page, 0, own.raw};
        if (entry.is_slab()) {
            const std::uint32_t before = entry.pages_before();
            if (before > page) return {Invariant::entries_match_slabs, page, page, before};
            const SlabWord slab = word(env, page - before);
            const std::uint32_t expected =
                slab.is_slab() ? PageEntry::of_slab(slab.size_class(), slab.log2_pages(), before).raw : 0u;
            if (expected != entry.raw || before >= slab.pages())
                return {Invariant::entries_match_slabs, page, expected, entry.raw};
            if (before != 0)
                return own.is_slab() ? AuditFinding{Invariant::entries_match_slabs, page, 0, own.raw} : AuditFinding{};
            return check_slab(env, page, own);
        }
        if (own.is_slab()) return {Invariant::entries_match_slabs, page, own.raw, entry.raw};
        if (entry.is_run()) {
            const std::uint32_t count = entry.run_pages();
            if (count == 0 || count > page_count() - page)
                return {Invariant::runs_are_whole, page, page_count(), count};
            for (std::uint32_t inner = page + 1; inner < page + count; ++inner) {
                const std::uint32_t found = env.load(supply_.entries[inner], Order::relaxed);
                if (found != 0 || is_free(env, inner)) return {Invariant::runs_are_whole, page, inner, found};
            }
        }
        return check_no_slots(env, page);
    }

    CUDA_ZSTD_HD AuditFinding check_no_slots(Env& env, std::uint32_t page) const {
        for (std::uint32_t index = 0; index < slot_words_per_page; ++index) {
            const std::uint32_t bits = env.load(supply_.slabs.bits_of(page)[index], Order::relaxed);
            if (bits != 0) return {Invariant::slots_belong_to_slabs, page, 0, index * 32u + lowest_bit(bits)};
        }
        return {};
    }

    CUDA_ZSTD_HD AuditFinding check_slab(Env& env, std::uint32_t slab, SlabWord own) const {
        const std::uint32_t slots = own.slots();
        std::uint32_t taken = 0;
        for (std::uint32_t index = 0; index < own.pages() * slot_words_per_page; ++index) {
            const std::uint32_t bits = env.load(supply_.slabs.bits_of(slab)[index], Order::relaxed);
            const std::uint32_t before = index * 32u;
            const std::uint32_t valid = slots > before ? low_bits(slots - before < 32u ? slots - before : 32u) : 0u;
            if ((bits & ~valid) != 0)
                return {Invariant::slots_belong_to_slabs, slab, slots, before + lowest_bit(bits & ~valid)};
            taken += popcount(bits);
        }
        if (own.credits() != static_cast<std::int32_t>(slots - taken))
            return {Invariant::credits_are_free_slots, slab, slots - taken,
                    static_cast<std::uint64_t>(static_cast<std::int64_t>(own.credits()))};
        const std::uint32_t reached = env.load(reaches_[slab], Order::relaxed);
        if (reached != (own.listed() ? 1u : 0u))
            return {Invariant::listed_slabs_are_reached_once, slab, own.listed() ? 1u : 0u, reached};
        if (!own.listed() && own.credits() != 0)
            return {Invariant::credits_are_in_reach, slab, 0, static_cast<std::uint32_t>(own.credits())};
        return {};
    }

    /// With every page checked by itself, some page is no part of anything: walks from block to block to find it.
    CUDA_ZSTD_HD std::uint32_t ownerless_page(Env& env) const {
        for (std::uint32_t page = 0; page < page_count();) {
            const PageEntry entry{env.load(supply_.entries[page], Order::relaxed)};
            if (!is_free(env, page) && !entry.is_slab() && !entry.is_run() && !entry.is_away()) return page;
            page += entry.is_run() ? entry.run_pages() : 1u;
        }
        return page_count();
    }

    const Heap<Env>& heap_;
    const SlabSupply<Env>& supply_;
    Work* work_;
    atom<std::uint32_t>* reaches_;
};

/// The whole audit by one thread.
template <class Env>
AuditFinding audit_heap(Env& env, const Heap<Env>& heap, void* work) {
    const HeapAudit<Env> audit(heap, work);
    audit.begin(env, 0, 1);
    audit.follow_lists(env, 0, 1);
    audit.check_pages(env, 0, 1);
    return audit.conclude(env);
}

} // namespace cuda_zstd
