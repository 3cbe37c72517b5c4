// SPDX-License-Identifier: MIT
// A heap of few pages and one size class for full searches: only the cells that its own code touches exist, slabs are
// put where a suite wants them, and a warp is one lane that meets nobody, so that each step is an access to memory.
//
// Invariant: at rest (expect_rest) each page is either free, or a slab whose credits are its clear bits and that is in
// exactly one place: in the cursor, on the list, or unlisted without credits. Each slot has a variable that stands for
// the user's bytes there: a race on it is a race of two owners.
#pragma once

#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

#include "model_check.hpp"

namespace cuda_zstd::model {

/// A warp of one lane. What lanes do together is no step of it: there is nobody else.
template <rl::thread_id_t Threads, class Mutation>
class LoneLane : public relacy_env<Threads, 1, Mutation> {
public:
    explicit LoneLane(ModelWarp<Threads, 1>& warp) : relacy_env<Threads, 1, Mutation>(warp, 0) {}

    LaneMask match_any(LaneMask mask, std::uint32_t) const { return mask; }
    LaneMask ballot(LaneMask mask, bool predicate) const { return predicate ? mask : 0; }
    template <class T>
    T shfl(LaneMask, T value, unsigned) const {
        return value;
    }
    void sync(LaneMask) const {}
    std::uint32_t reduce_or(LaneMask, std::uint32_t value) const { return value; }
};

/// Pages are named by their numbers; the slots have `slot_bytes`, a size of a class of at most 32 slots a page.
template <class Env, std::uint32_t page_count, std::uint32_t slot_bytes = max_slot_bytes>
class SmallHeap {
    template <class T>
    using Cell = ModelAtom<T>;
    static_assert(page_bytes / slot_bytes <= 32);

public:
    static constexpr unsigned size_class = size_class_of(slot_bytes);
    static constexpr std::uint32_t slots = page_bytes / slot_bytes;

    SmallHeap() {
        for_each_cell([](auto* cell) { ::new (cell) std::remove_pointer_t<decltype(cell)>(); });
        char* const base = reinterpret_cast<char*>(this);
        const auto offset = [&](const void* part) {
            return static_cast<std::size_t>(static_cast<const char*>(part) - base);
        };
        layout_.page_count = page_count;
        layout_.stations = 1;
        layout_.station_scale = 1u << 16;
        layout_.slab_log2_pages = 0;
        layout_.control_offset = offset(control_);
        layout_.shared_cells_offset = offset(shared_cells_);
        layout_.stations_offset = offset(stations_);
        layout_.slab_words_offset = offset(words_);
        layout_.next_offset = offset(next_);
        layout_.page_entries_offset = offset(entries_);
        layout_.page_bits_offset = offset(page_bits_);
        layout_.slot_bits_offset = offset(slot_bits_);
        layout_.pages_offset = round_up<std::size_t>(sizeof *this, page_bytes); // addresses only
        heap_ = Heap<Env>::over(base, layout_);
    }
    ~SmallHeap() {
        for_each_cell([](auto* cell) { std::destroy_at(cell); });
    }

    const Heap<Env>& heap() const { return heap_; }
    const SlabSupply<Env>& supply() const { return heap_.supply(); }
    const SlabMap<Env>& slabs() const { return supply().slabs; }
    auto& cursor() const { return supply().cursor_of(size_class, 0); }
    SlabList<Env> list() const { return supply().list_of(size_class, 0); }

    /// An empty heap: all pages are free.
    void prepare(Env& env) {
        for_each_cell([&](auto* cell) { env.store(*cell, 0, Order::relaxed); });
        for (std::uint32_t page = 0; page < page_count; ++page) {
            env.store(words_[page], 0, Order::relaxed);
            env.store(next_[page], 0, Order::relaxed);
            env.store(entries_[page], 0, Order::relaxed);
        }
        format_heap(env, this, layout_, 0, 1);
        for (rl::var<int>& slot : bytes_)
            slot(rl::debug_info("prepare", __FILE__, __LINE__)).store(0);
    }
    /// Makes a page a slab of which the slots of `taken` are taken, before the threads run. A listed one must be put in
    /// its place.
    void put_slab(Env& env, std::uint32_t page, std::uint32_t taken, bool listed) {
        std::uint64_t word = SlabWord::birth(size_class, 0, 0) - SlabWord::credit(popcount(taken));
        if (!listed) word &= ~SlabWord::listed_bit;
        env.store(words_[page], word, Order::relaxed);
        env.store(entries_[page], PageEntry::of_slab(size_class, 0, 0).raw, Order::relaxed);
        env.store(*slabs().bits_of(page), taken, Order::relaxed);
        env.fetch_and(page_bits_[0], ~(1u << page), Order::relaxed);
        env.fetch_sub(*supply().pages.free_count, 1u, Order::relaxed);
        if (listed) env.fetch_add(listed_count(), 1u, Order::relaxed);
    }
    void put_cursor(Env& env, std::uint32_t current_plus_1, std::uint32_t next_plus_1) {
        env.store(cursor(), Cursor::of(current_plus_1, next_plus_1).raw, Order::relaxed);
    }

    void* block_of(std::uint32_t page, std::uint32_t slot) const {
        return heap_.pages_base() + std::size_t{page} * page_bytes + std::size_t{slot} * slot_bytes;
    }
    /// The owner writes to its block.
    void touch(std::uint32_t page, std::uint32_t slot) {
        bytes_[page * slots + slot](rl::debug_info("touch", __FILE__, __LINE__)).store(1);
    }
    void touch(const void* block) {
        const auto offset = static_cast<std::size_t>(static_cast<const char*>(block) - heap_.pages_base());
        touch(static_cast<std::uint32_t>(offset / page_bytes),
              static_cast<std::uint32_t>(offset % page_bytes / slot_bytes));
    }
    void touch_all(std::uint32_t page) {
        for (std::uint32_t slot = 0; slot < slots; ++slot)
            touch(page, slot);
    }
    /// A block by the heap's own call; there is one.
    void* take(Env& env) {
        Status status = Status::ok;
        void* const block = heap_.allocate(env, 1, slot_bytes, min_slot_bytes, status);
        RL_ASSERT(block != nullptr);
        touch(block);
        return block;
    }
    void give(Env& env, void* block) {
        touch(block);
        RL_ASSERT(heap_.deallocate(env, 1, block) == Status::ok);
    }
    /// A block of the slab with this number, which may be stale by now; null if it has none for the caller. What was
    /// over-subtracted goes back: as SlabSupply does with the slabs that it finds.
    void* take_from(Env& env, std::uint32_t page, std::uint32_t want = 1) {
        std::uint32_t returned = 0;
        const SlabGrant grant = slabs().reserve(env, page, size_class, want, returned);
        if (returned != 0) supply().give_back(env, page, returned);
        if (grant.count == 0) return nullptr;
        RL_ASSERT(grant.count == 1); // the suites leave no more
        const std::uint32_t slot = slabs().find_slot(env, page, grant.start, 0);
        RL_ASSERT(slot < slots);
        touch(page, slot);
        return block_of(page, slot);
    }
    /// Frees all slots of a slab at once, as a warp does.
    void give_all(Env& env, std::uint32_t page) {
        touch_all(page);
        RL_ASSERT(env.fetch_and(*slabs().bits_of(page), ~low_bits(slots), Order::release) == low_bits(slots));
        const SlabWord now = slabs().add_credits(env, page, slots);
        if (now.needs_care(slots)) supply().take_care(env, page, now, slots);
    }

    /// Makes a slab, if there is a page, all of whose slots the caller takes: as SlabSupply does for large groups.
    bool take_slab(Env& env) {
        supply().stations.begin_move(env);
        const SlabGrant grant = supply().make_slab(env, size_class, 0, slots);
        supply().stations.end_move(env);
        if (grant.slab == SlabSupply<Env>::no_slab) return false;
        RL_ASSERT(grant.count == slots && grant.start == 0);
        take_all(env, grant.slab);
        return true;
    }
    /// Takes all slots of a slab, which the caller has reserved.
    void take_all(Env& env, std::uint32_t page) {
        RL_ASSERT(env.fetch_or(*slabs().bits_of(page), low_bits(slots), Order::acquire) == 0);
        touch_all(page);
    }
    /// A reclaim of the one class.
    void reclaim(Env& env) {
        if (supply().begin_reclaim(env) != SlabSupply<Env>::Reclaim::begun) return;
        supply().begin_whole_sweep(env);
        supply().drain_cursor(env, cursor());
        supply().drain_list(env, list());
        supply().end_reclaim(env);
    }
    /// The rare half of a reservation of one slot that found the cursor and then, by its subtraction, its slab so.
    SlabGrant reserve_rarely(Env& env, Cursor seen, SlabWord found) {
        const SlabGrant grant = SlabSupply<Env>::reserve_rarely(&supply(), env, size_class, 1, seen.raw, found.raw);
        RL_ASSERT(grant.count == 1 && grant.start < slots);
        return grant;
    }
    /// The slot of a grant, of a slab that was not freed into.
    void take_slot(Env& env, SlabGrant grant) {
        const std::uint32_t bit = 1u << grant.start;
        RL_ASSERT((env.fetch_or(*slabs().bits_of(grant.slab), bit, Order::acquire) & bit) == 0);
        touch(grant.slab, grant.start);
    }

    /// At rest, with so many blocks live: see the head of the file. An empty slab in reach has told the reclaimers.
    void expect_rest(Env& env, std::uint32_t live) {
        std::uint32_t places[page_count] = {};
        const Cursor at{env.load(cursor(), Order::relaxed)};
        RL_ASSERT(!at.busy());
        if (at.current_plus_1() != 0) ++places[at.current_plus_1() - 1u];
        if (at.next_plus_1() != 0) ++places[at.next_plus_1() - 1u];
        auto linked = static_cast<std::uint32_t>(env.load(*list().head, Order::relaxed));
        for (std::uint32_t steps = 0; linked != 0; ++steps) {
            RL_ASSERT(steps < page_count);
            ++places[linked - 1u];
            linked = env.load(next_[linked - 1u], Order::relaxed);
        }
        const std::uint32_t free_pages = env.load(page_bits_[0], Order::relaxed);
        std::uint32_t listed = 0;
        for (std::uint32_t page = 0; page < page_count; ++page) {
            const SlabWord word{env.load(words_[page], Order::relaxed)};
            const std::uint32_t taken = env.load(*slabs().bits_of(page), Order::relaxed);
            const PageEntry entry{env.load(entries_[page], Order::relaxed)};
            RL_ASSERT(entry.is_slab() == word.is_slab() && word.is_slab() == ((free_pages >> page & 1u) == 0));
            RL_ASSERT(word.credits() + static_cast<std::int32_t>(popcount(taken)) ==
                      (word.is_slab() ? static_cast<std::int32_t>(slots) : 0));
            RL_ASSERT(places[page] == (word.listed() ? 1u : 0u) && (word.listed() || word.credits() == 0));
            RL_ASSERT(live >= popcount(taken));
            live -= popcount(taken);
            listed += word.listed() ? 1u : 0u;
            if (word.all_free())
                RL_ASSERT(env.load(*supply().became_empty, Order::relaxed) !=
                          env.load(*supply().reclaimed, Order::relaxed));
        }
        RL_ASSERT(live == 0);
        RL_ASSERT(env.load(listed_count(), Order::relaxed) == listed);
        RL_ASSERT(env.load(*supply().pages.free_count, Order::relaxed) == popcount(free_pages));
        RL_ASSERT(!Stations::any_under_way(supply().stations.all_moves(env)));
    }

private:
    static constexpr unsigned control_count = 14;
    // The stations of the class and of the page map, as Stations::cell() finds them.
    static constexpr std::size_t stride = sizeof(Cell<std::uint64_t>) > station_bytes / 2 ? sizeof(Cell<std::uint64_t>)
                                                                                          : station_bytes / 2;

    auto& listed_count() const { return supply().stations.template listed_count<Env>(size_class); }

    template <class Visit>
    void for_each_cell(const Visit& visit) {
        static_assert(sizeof(Cell<std::uint64_t>) <= shared_cell_bytes);
        for (unsigned cell = 0; cell < control_count; ++cell)
            visit(reinterpret_cast<Cell<std::uint32_t>*>(control_ + cell * std::size_t{128}));
        for (unsigned index = 0; index < move_counters; ++index)
            visit(reinterpret_cast<Cell<std::uint64_t>*>(shared_cells_ + std::size_t{index} * shared_cell_bytes));
        visit(reinterpret_cast<Cell<std::uint32_t>*>(shared_cells_ +
                                                     std::size_t{move_counters + size_class} * shared_cell_bytes));
        for (const std::size_t index :
             {std::size_t{size_class} * 2, std::size_t{size_class} * 2 + 1, std::size_t{size_class_count} * 2})
            visit(reinterpret_cast<Cell<std::uint64_t>*>(stations_ + index * stride));
        for (std::uint32_t page = 0; page < page_count; ++page)
            visit(reinterpret_cast<Cell<std::uint32_t>*>(slot_bits_) + std::size_t{page} * slot_words_per_page);
    }

    Cell<std::uint64_t> words_[page_count];
    Cell<std::uint32_t> next_[page_count];
    Cell<std::uint32_t> entries_[page_count];
    Cell<std::uint32_t> page_bits_[1];
    rl::var<int> bytes_[page_count * slots];
    alignas(128) char control_[control_bytes];
    alignas(128) char shared_cells_[shared_cell_count * shared_cell_bytes];
    alignas(64) char stations_[(size_class_count + 1) * 2 * stride];
    alignas(64) char slot_bits_[sizeof(Cell<std::uint32_t>) * page_count * slot_words_per_page];
    HeapLayout layout_;
    Heap<Env> heap_;
};

} // namespace cuda_zstd::model
