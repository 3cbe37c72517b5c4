// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/slab_map.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;

} // namespace

SlabMap::~SlabMap() {
    for (auto& [slots, spare] : spare_)
        spare.clear();
    while (made_ != nullptr) {
        Slab* slab = std::exchange(made_, made_->made_before);
        std::destroy_n(slab->records(), slab->slots);
        std::destroy_at(slab);
        ::operator delete (slab, std::align_val_t{alignof(Slab)});
    }
    for (auto& place : leaves_)
        for (Leaf* leaf = place.load(relaxed); leaf != nullptr;)
            delete std::exchange(leaf, leaf->older);
}

/// One that is in the list of the spare ones.
Slab& SlabMap::make(std::uint32_t slots) {
    SlabList& spare = spare_[slots];
    if (!spare.empty()) return spare.back();
    void* memory = ::operator new (sizeof(Slab) + slots * sizeof(BlockRecord), std::align_val_t{alignof(Slab)});
    Slab& slab = *new (memory) Slab(slots);
    for (std::uint32_t place = 0; place < slots; ++place)
        new (slab.records() + place) BlockRecord(place);
    slab.made_before = std::exchange(made_, &slab);
    spare.push_back(slab);
    return slab;
}

SlabMap::Leaf& SlabMap::made_leaf_of(std::uintptr_t page_number) {
    if (Leaf* leaf = leaf_of(page_number)) return *leaf;
    const std::uintptr_t region = page_number / pages_of_leaf;
    auto& place = leaves_[region % leaves_.size()];
    auto* leaf = new Leaf{region, place.load(relaxed), {}};
    place.store(leaf, std::memory_order_release);
    return *leaf;
}

/// Makes the pages of a range lead to a slab, or to none. May throw std::bad_alloc where no page of the leaf has led
/// to a slab before.
void SlabMap::lead_to(Slab* slab, std::uintptr_t first_byte, std::size_t bytes) {
    const std::uintptr_t first = first_byte >> page_shift;
    const std::uintptr_t last = (first_byte + bytes - 1) >> page_shift;
    // What can throw comes first: the range is smaller than a leaf.
    (void)made_leaf_of(first);
    (void)made_leaf_of(last);
    for (std::uintptr_t number = first; number <= last; ++number) {
        Page& page = leaf_of(number)->pages[number % pages_of_leaf];
        const bool begins = number == first && first_byte % page_bytes != 0;
        (begins ? page.beginning : page.covering).store(slab, std::memory_order_release);
    }
}

Slab& SlabMap::add(std::byte* base, std::size_t memory_bytes, std::uint32_t slot_bytes, unsigned class_index) {
    const auto slots = static_cast<std::uint32_t>(std::min<std::size_t>(memory_bytes / slot_bytes, Slab::most_slots));
    const std::uint32_t bytes = slots * slot_bytes;
    const auto address = reinterpret_cast<std::uintptr_t>(base);
    const std::lock_guard lock(mutex_);
    Slab& slab = make(slots);
    const auto granules = static_cast<std::uint32_t>(slot_bytes >> granule_shift);
    const bool is_mapped = memory_bytes >= page_bytes;
    // Its records are absent: nobody is led to them by what is seen of it between two of these.
    slab.slot_bytes.store(slot_bytes, relaxed);
    slab.reciprocal.store(((1u << 24) + granules - 1) / granules, relaxed);
    slab.bytes.store(bytes, relaxed);
    if (is_mapped) lead_to(&slab, address, bytes);
    slab.base.store(base, relaxed);
    slab.class_index = class_index;
    slab.is_mapped = is_mapped;
    slab.free_slots = slots;
    slab.leaves = false;
    spare_.find(slots)->second.pop_back();
    return slab;
}

void SlabMap::remove(Slab& slab) noexcept {
    const std::lock_guard lock(mutex_);
    if (slab.is_mapped)
        lead_to(nullptr, reinterpret_cast<std::uintptr_t>(slab.base.load(relaxed)), slab.bytes.load(relaxed));
    slab.base.store(nullptr, relaxed);
    slab.leaving_behind.clear();
    spare_.find(slab.slots)->second.push_back(slab);
}

} // namespace cuda_zstd::detail
