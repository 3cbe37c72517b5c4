// SPDX-License-Identifier: MIT
// The slabs of a small pool, by address.
//
// Invariant: pages of 64 KiB lead to the slabs of at least that size, two at most: one that holds the page's first
// byte, and one that begins behind it. Pages come in leaves, which are added as addresses come and stay till the map
// ends; so do slabs, which are used again for as many slots. So find() needs no lock, and what it finds can be read
// whatever happens meanwhile.
#pragma once

#include "cuda_zstd/host/block_record.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

namespace cuda_zstd::detail {

class SlabMap {
public:
    SlabMap() = default;
    /// Releases what records still hold.
    ~SlabMap();
    SlabMap(const SlabMap&) = delete;
    SlabMap& operator=(const SlabMap&) = delete;

    /// A slab of the memory at `base`, its records absent. Its size class and memory are for the caller to fill in. May
    /// throw std::bad_alloc.
    Slab& add(std::byte* base, std::size_t memory_bytes, std::uint32_t slot_bytes, unsigned class_index);
    /// Of one in no list, whose records are absent, or will be used no more.
    void remove(Slab& slab) noexcept;
    /// Of the slot that holds the address, perhaps: claim() decides. Null where no page leads to such a slab.
    BlockRecord* find(const void* ptr) const noexcept {
        const std::uintptr_t number = reinterpret_cast<std::uintptr_t>(ptr) >> page_shift;
        const Leaf* leaf = leaf_of(number);
        if (leaf == nullptr) return nullptr;
        const Page& page = leaf->pages[number % pages_of_leaf];
        if (Slab* slab = page.covering.load(std::memory_order_acquire))
            if (BlockRecord* record = slab->record_of(ptr)) return record;
        Slab* slab = page.beginning.load(std::memory_order_acquire);
        return slab == nullptr ? nullptr : slab->record_of(ptr);
    }
    /// The same while no slab comes or goes: with a lock.
    BlockRecord* find_beside_all(const void* ptr) const noexcept {
        const std::lock_guard lock(mutex_);
        return find(ptr);
    }
    /// The records of all slabs, absent ones too. With a lock that add() and remove() take.
    template <class Visit>
    void for_each(const Visit& visit) const {
        const std::lock_guard lock(mutex_);
        for (Slab* slab = made_; slab != nullptr; slab = slab->made_before)
            if (slab->base.load(std::memory_order_relaxed) != nullptr)
                for (std::uint32_t place = 0; place < slab->slots; ++place)
                    visit(slab->records()[place]);
    }

private:
    static constexpr unsigned page_shift = 16;
    static constexpr std::size_t page_bytes = std::size_t{1} << page_shift;
    static constexpr std::size_t pages_of_leaf = 512;
    struct Page {
        /// The one that holds the page's first byte.
        std::atomic<Slab*> covering{nullptr};
        /// The one that begins behind it.
        std::atomic<Slab*> beginning{nullptr};
    };
    /// 32 MiB of addresses.
    struct Leaf {
        std::uintptr_t region = 0;
        /// Of those that share the place.
        Leaf* older = nullptr;
        std::array<Page, pages_of_leaf> pages;
    };

    Leaf* leaf_of(std::uintptr_t page_number) const noexcept {
        const std::uintptr_t region = page_number / pages_of_leaf;
        Leaf* leaf = leaves_[region % leaves_.size()].load(std::memory_order_acquire);
        while (leaf != nullptr && leaf->region != region)
            leaf = leaf->older;
        return leaf;
    }
    Leaf& made_leaf_of(std::uintptr_t page_number);
    void lead_to(Slab* slab, std::uintptr_t first_byte, std::size_t bytes);
    Slab& make(std::uint32_t slots);

    /// Regions in a row have places in a row: 32 GiB without two at one place.
    std::array<std::atomic<Leaf*>, 1024> leaves_{};
    mutable std::mutex mutex_;
    /// By the number of their slots.
    std::map<std::uint32_t, SlabList> spare_;
    Slab* made_ = nullptr;
};

} // namespace cuda_zstd::detail
