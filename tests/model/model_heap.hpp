// SPDX-License-Identifier: MIT
// A heap of a few pages whose metadata are modelled cells, for suites that run the heap's own code under Relacy.
//
// Invariant: as new after `prepare`. Only the first two slot words of each page exist, so blocks are of 1,024 B or
// more. Each granule of the heap has a variable that stands for the user's bytes there: a race on it is a race of two
// owners.
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

/// Blocks begin at multiples of `granule_bytes`.
template <class Env, std::uint32_t page_count, std::uint32_t station_count = 1, std::uint32_t granule_bytes = 2048>
class ModelHeap {
    template <class T>
    using Cell = ModelAtom<T>;
    // The stations of each class, and those of the page map; two cells each.
    static constexpr std::uint32_t cell_count = (size_class_count + 1) * station_count * 2;

public:
    ModelHeap() {
        for (std::uint32_t page = 0; page < page_count; ++page)
            for (unsigned word = 0; word < slot_words; ++word)
                ::new (slot_word(page) + word) Cell<std::uint32_t>();
        for (unsigned cell = 0; cell < control_count; ++cell)
            ::new (control_ + cell * std::size_t{128}) Cell<std::uint32_t>();
        for_each_shared([](auto* cell) { ::new (cell) std::remove_pointer_t<decltype(cell)>(); });
        HeapLayout& layout = layout_;
        layout.page_count = page_count;
        layout.stations = station_count;
        layout.station_scale = 1u << 16;
        layout.slab_log2_pages = 0;
        char* const base = reinterpret_cast<char*>(this);
        const auto offset = [&](const void* part) {
            return static_cast<std::size_t>(static_cast<const char*>(part) - base);
        };
        layout.control_offset = offset(control_);
        layout.shared_cells_offset = offset(shared_cells_);
        layout.stations_offset = offset(cursors_);
        layout.slab_words_offset = offset(words_);
        layout.next_offset = offset(next_);
        layout.page_entries_offset = offset(entries_);
        layout.page_bits_offset = offset(page_bits_);
        layout.slot_bits_offset = offset(slot_bits_);
        layout.pages_offset = offset(pages_);
        heap_ = Heap<Env>::over(base, layout);
    }
    ~ModelHeap() {
        for (std::uint32_t page = 0; page < page_count; ++page)
            for (unsigned word = 0; word < slot_words; ++word)
                (slot_word(page) + word)->~Cell<std::uint32_t>();
        for (unsigned cell = 0; cell < control_count; ++cell)
            reinterpret_cast<Cell<std::uint32_t>*>(control_ + cell * std::size_t{128})->~Cell<std::uint32_t>();
        for_each_shared([](auto* cell) { std::destroy_at(cell); });
    }

    const Heap<Env>& heap() const { return heap_; }
    const SlabSupply<Env>& supply() const { return heap_.supply(); }

    void prepare(Env& env) {
        for (unsigned cell = 0; cell < control_count; ++cell)
            env.store(heap_.control(static_cast<ControlCell>(cell)), 0, Order::relaxed);
        for_each_shared([&](auto* cell) { env.store(*cell, 0, Order::relaxed); });
        for (Cell<std::uint64_t>& cell : cursors_)
            env.store(cell, 0, Order::relaxed);
        for (std::uint32_t page = 0; page < page_count; ++page) {
            env.store(words_[page], 0, Order::relaxed);
            env.store(next_[page], 0, Order::relaxed);
            env.store(entries_[page], 0, Order::relaxed);
            for (unsigned word = 0; word < slot_words; ++word)
                env.store(slot_word(page)[word], 0, Order::relaxed);
        }
        format_heap(env, this, layout_, 0, 1);
        for (rl::var<int>& granule : granules_)
            granule(rl::debug_info("prepare", __FILE__, __LINE__)).store(0);
    }

    /// The owner writes to the first bytes of its block.
    void touch(const void* block, int value = 1) {
        const auto offset = static_cast<std::size_t>(static_cast<const char*>(block) - heap_.pages_base());
        RL_ASSERT(offset < sizeof pages_);
        granules_[offset / granule_bytes](rl::debug_info("touch", __FILE__, __LINE__)).store(value);
    }

    /// A block for the lanes, touched; null with the reason.
    void* take(Env& env, LaneMask lanes, std::size_t bytes, Status& status) {
        void* const block = heap_.allocate(env, lanes, bytes, 16, status);
        if (block != nullptr) touch(block);
        return block;
    }
    void give(Env& env, LaneMask lanes, void* block) {
        if (block != nullptr) touch(block, 2);
        const Status status = heap_.deallocate(env, lanes, block);
        RL_ASSERT(status == Status::ok);
    }

    /// At rest, with no block live: after a reclaim every page must be free again.
    void expect_all_free(Env& env) {
        while (supply().reclaim(env)) {
        }
        RL_ASSERT(env.load(heap_.control(ControlCell::free_pages), Order::relaxed) == page_count);
        RL_ASSERT(env.load(page_bits_[0], Order::relaxed) == low_bits(page_count));
        for (std::uint32_t page = 0; page < page_count; ++page) {
            const SlabWord word{env.load(words_[page], Order::relaxed)};
            RL_ASSERT(!word.is_slab() && !word.listed() && word.credits() == 0);
            for (unsigned word = 0; word < slot_words; ++word)
                RL_ASSERT(env.load(slot_word(page)[word], Order::relaxed) == 0);
        }
    }

private:
    static constexpr unsigned control_count = 14;
    /// Words of slot bits that a page has here: those of blocks of a 64th of a page.
    static constexpr unsigned slot_words = 2;

    /// The counts that processors share: of moves, in 64 bits, then of listed slabs.
    template <class Visit>
    void for_each_shared(const Visit& visit) {
        static_assert(sizeof(Cell<std::uint64_t>) <= shared_cell_bytes);
        for (unsigned index = 0; index < shared_cell_count; ++index) {
            char* const at = shared_cells_ + std::size_t{index} * shared_cell_bytes;
            if (index < move_counters)
                visit(reinterpret_cast<Cell<std::uint64_t>*>(at));
            else
                visit(reinterpret_cast<Cell<std::uint32_t>*>(at));
        }
    }
    Cell<std::uint32_t>* slot_word(std::uint32_t page) {
        return reinterpret_cast<Cell<std::uint32_t>*>(slot_bits_) + std::size_t{page} * slot_words_per_page;
    }

    Cell<std::uint64_t> cursors_[cell_count];
    Cell<std::uint64_t> words_[page_count];
    Cell<std::uint32_t> next_[page_count];
    Cell<std::uint32_t> entries_[page_count];
    Cell<std::uint32_t> page_bits_[1];
    rl::var<int> granules_[page_count * page_bytes / granule_bytes];
    alignas(128) char control_[control_bytes];
    alignas(128) char shared_cells_[shared_cell_count * shared_cell_bytes];
    alignas(64) char slot_bits_[sizeof(Cell<std::uint32_t>) * page_count * slot_words_per_page];
    char pages_[std::size_t{page_count} * page_bytes]; ///< addresses only
    HeapLayout layout_;
    Heap<Env> heap_;
};

} // namespace cuda_zstd::model
