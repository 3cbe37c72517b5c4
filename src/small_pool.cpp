// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/small_pool.hpp"

#include "coarse_clock.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t smallest_slab_bytes = std::size_t{64} << 10;
constexpr std::size_t largest_slab_bytes = std::size_t{1} << 20;
constexpr std::size_t slots_aimed_at = 32;
constexpr unsigned linear_classes = 4;
constexpr unsigned classes_per_doubling = 4;
/// Empty slabs that a class keeps for the next requests.
constexpr std::size_t kept_slabs = 2;

std::size_t class_bytes(unsigned index) noexcept {
    if (index < linear_classes) return (index + 1) * granule_bytes;
    const unsigned doubling = (index - linear_classes) / classes_per_doubling;
    const unsigned step = (index - linear_classes) % classes_per_doubling + 1;
    const std::size_t base_bytes = std::size_t{1024} << doubling;
    return base_bytes + step * (base_bytes / classes_per_doubling);
}

} // namespace

std::size_t SmallPool::slot_bytes(std::size_t bytes) noexcept { return class_bytes(class_of(bytes)); }

SmallPool::SmallPool(std::size_t limit_bytes, StreamOrder& order, BlockPool& parent, SlabMap& slabs, SlabSize slab_size)
    : order_(order), parent_(parent), slabs_(slabs), slab_size_(slab_size) {
    for (Shard& shard : shards_)
        for (unsigned index = 0; index <= class_of(limit_bytes); ++index) {
            shard.push_back(std::make_unique<SizeClass>());
            shard.back()->slot_bytes = class_bytes(index);
        }
}

std::size_t SmallPool::size_of_class(unsigned index) noexcept { return class_bytes(index); }

TakenSlot SmallPool::take(std::size_t bytes, const StreamRef& stream, Effort effort) {
    const unsigned index = class_of(bytes);
    TakenSlot taken = take_from(*shards_[stream.id % shard_count][index], stream, effort);
    // With the memory at an end, what the other shards have will do.
    for (unsigned i = 1; i < shard_count && taken.slab == nullptr && effort == Effort::all; ++i)
        taken = take_from(*shards_[(stream.id + i) % shard_count][index], stream, Effort::wait);
    return taken;
}

TakenSlot SmallPool::take_from(SizeClass& size_class, const StreamRef& stream, Effort effort) {
    const std::lock_guard lock(size_class.mutex);
    const auto hand_out = [&](FreeSlot slot, Origin origin) {
        if (slot.slab->free_slots-- == slot.slab->slots) --size_class.empty_slabs;
        TakenSlot taken{slot.ptr, slot.slab, {}, origin};
        if (slot.ticket != nullptr) taken.dependencies.add(slot.ticket);
        return taken;
    };
    const auto take_last = [&](auto& list, Origin origin) {
        FreeSlot slot = std::move(list.back());
        list.pop_back();
        return hand_out(std::move(slot), origin);
    };
    const auto own = size_class.by_stream.find(stream.id);
    if (own != size_class.by_stream.end() && !own->second.empty()) return take_last(own->second, Origin::own);
    if (!size_class.settled.empty() || settle(size_class)) return take_last(size_class.settled, Origin::own);
    if (may_wait(effort))
        for (auto& [id, slots] : size_class.by_stream) {
            const auto oldest = std::find_if(slots.begin(), slots.end(), [&, closes = order_.may_close()](auto& slot) {
                return closes || slot.ticket->state.load(std::memory_order_acquire) != Ticket::State::open;
            });
            if (oldest == slots.end()) continue;
            FreeSlot slot = std::move(*oldest);
            slots.erase(oldest);
            return hand_out(std::move(slot), Origin::own);
        }
    if (!add_slab(size_class, stream, effort)) return {};
    // The new slab's slots. Other streams' lists may hold slots, too: those are not what the slab was made for.
    if (!size_class.settled.empty()) return take_last(size_class.settled, Origin::larger_pool);
    const auto made = size_class.by_stream.find(stream.id);
    if (made != size_class.by_stream.end() && !made->second.empty())
        return take_last(made->second, Origin::larger_pool);
    for (auto& [id, slots] : size_class.by_stream)
        if (!slots.empty()) return take_last(slots, Origin::larger_pool);
    return {};
}

/// Moves slots whose tickets are complete to the settled ones; whether there are any. A stream's tickets complete in
/// order, so one query a stream that says no ends the search there.
bool SmallPool::settle(SizeClass& size_class) {
    for (auto entry = size_class.by_stream.begin(); entry != size_class.by_stream.end();) {
        std::deque<FreeSlot>& slots = entry->second;
        while (!slots.empty() && order_.is_complete(*slots.front().ticket)) {
            const FreeSlot& oldest = slots.front();
            size_class.settled.push_back({oldest.ptr, oldest.slab, nullptr, oldest.time_ns});
            slots.pop_front();
        }
        entry = slots.empty() ? size_class.by_stream.erase(entry) : std::next(entry);
    }
    return !size_class.settled.empty();
}

std::size_t SmallPool::next_slab_bytes(const SizeClass& size_class) const noexcept {
    if (slab_size_ == SlabSize::smallest) return round_up(smallest_slab_bytes, size_class.slot_bytes);
    return std::clamp(std::bit_ceil(size_class.slot_bytes * slots_aimed_at), smallest_slab_bytes,
                      std::max(largest_slab_bytes, std::bit_ceil(size_class.slot_bytes)));
}

bool SmallPool::add_slab(SizeClass& size_class, const StreamRef& stream, Effort effort) {
    Taken memory = parent_.take(next_slab_bytes(size_class), granule_bytes, stream.id, effort);
    if (!memory && may_grow(effort) && may_wait(effort))
        memory = parent_.take(size_class.slot_bytes, granule_bytes, stream.id, effort);
    if (!memory) return false;
    TicketRef ticket;
    Slab* slab = nullptr;
    try {
        if (memory.dependencies.size() == 1) {
            ticket = memory.dependencies.front();
        } else if (!memory.dependencies.empty()) {
            // One ticket stands for all: the stream waits for them, then records.
            order_.wait_on_device(stream, memory.dependencies);
            ticket = order_.record(stream);
        }
        slab = &slabs_.add(memory.block->ptr, memory.block->bytes, static_cast<std::uint32_t>(size_class.slot_bytes),
                           class_of(size_class.slot_bytes));
        slab->size_class = &size_class;
        slab->memory = memory.block;
        list_slots(size_class, *slab, ticket);
    } catch (...) {
        if (slab != nullptr) {
            const auto is_of_it = [&](const FreeSlot& slot) { return slot.slab == slab; };
            std::erase_if(size_class.settled, is_of_it);
            for (auto& [id, slots] : size_class.by_stream)
                std::erase_if(slots, is_of_it);
            slabs_.remove(*slab);
        }
        pool_of(*memory.block).give(*memory.block, std::move(memory.dependencies));
        throw;
    }
    size_class.slabs.push_back(*slab);
    ++size_class.empty_slabs;
    return true;
}

/// A new slab's slots, so that those are taken one after the other whose records lie in other cache lines.
void SmallPool::list_slots(SizeClass& size_class, Slab& slab, const TicketRef& ticket) {
    const auto add_all = [&](auto& list) {
        const std::uint32_t even = (slab.slots + 1) / 2;
        for (std::uint32_t i = slab.slots; i-- != 0;) {
            const std::uint32_t place = i < even ? 2 * i : 2 * (i - even) + 1;
            list.push_back({slab.memory->ptr + place * size_class.slot_bytes, &slab, ticket, slab.memory->timestamp});
        }
    };
    if (ticket == nullptr)
        add_all(size_class.settled);
    else
        add_all(size_class.by_stream[ticket->stream_id]);
}

bool SmallPool::has_surplus(const SizeClass& size_class) noexcept {
    return size_class.empty_slabs > 2 * kept_slabs + size_class.slabs.size() / 2;
}

std::size_t SmallPool::give(std::span<const GivenSlot> slots, const TicketRef& ticket) noexcept {
    const std::uint64_t time_ns = coarse_now_ns();
    std::size_t next = 0;
    while (next != slots.size())
        try {
            SizeClass& size_class = *slots[next].slab->size_class;
            const std::lock_guard lock(size_class.mutex);
            const auto add_all = [&](auto& list) {
                for (; next != slots.size() && slots[next].slab->size_class == &size_class; ++next) {
                    Slab& slab = *slots[next].slab;
                    list.push_back({slots[next].ptr, &slab, ticket, time_ns});
                    if (++slab.free_slots == slab.slots) ++size_class.empty_slabs;
                }
            };
            if (ticket == nullptr)
                add_all(size_class.settled);
            else
                add_all(size_class.by_stream[ticket->stream_id]);
            if (has_surplus(size_class)) surplus_.store(true, std::memory_order_relaxed);
        } catch (const std::bad_alloc&) {
            break;
        }
    return next;
}

bool SmallPool::give_back_surplus() {
    if (!surplus_.load(std::memory_order_relaxed) || !surplus_.exchange(false, std::memory_order_relaxed)) return false;
    for (Shard& shard : shards_)
        for (const auto& size_class : shard) {
            const std::lock_guard lock(size_class->mutex);
            if (has_surplus(*size_class)) release_empty(*size_class, kept_slabs);
        }
    return true;
}

void SmallPool::release_empty(SizeClass& size_class, std::size_t keep) {
    std::vector<Slab*> leaving;
    for (Slab& slab : size_class.slabs) {
        if (size_class.empty_slabs - leaving.size() <= keep) break;
        if (slab.free_slots == slab.slots) leaving.push_back(&slab);
    }
    if (leaving.empty()) return;
    for (Slab* slab : leaving)
        slab->leaves = true;
    const auto leaves = [&](const FreeSlot& slot) {
        if (!slot.slab->leaves) return false;
        if (slot.ticket != nullptr) slot.slab->leaving_behind.add(slot.ticket);
        return true;
    };
    std::erase_if(size_class.settled, leaves);
    for (auto& [id, slots] : size_class.by_stream)
        std::erase_if(slots, leaves);
    for (Slab* slab : leaving) {
        Block& memory = *slab->memory;
        Dependencies left_behind = std::move(slab->leaving_behind);
        size_class.slabs.erase(size_class.slabs.iterator_to(*slab));
        --size_class.empty_slabs;
        // First: the memory may be another slab's at once.
        slabs_.remove(*slab);
        pool_of(memory).give(memory, std::move(left_behind));
    }
}

void SmallPool::flush() {
    for (Shard& shard : shards_)
        for (const auto& size_class : shard) {
            const std::lock_guard lock(size_class->mutex);
            release_empty(*size_class, 0);
        }
}

void SmallPool::wait_on_host() {
    for (Shard& shard : shards_)
        for (const auto& size_class : shard) {
            Dependencies pending;
            {
                const std::lock_guard lock(size_class->mutex);
                for (const auto& [id, slots] : size_class->by_stream)
                    for (const FreeSlot& slot : slots)
                        pending.add(slot.ticket);
            }
            order_.wait_on_host(pending);
            const std::lock_guard lock(size_class->mutex);
            settle(*size_class);
        }
}

void SmallPool::clear() {
    for (Shard& shard : shards_)
        for (const auto& size_class : shard) {
            const std::lock_guard lock(size_class->mutex);
            size_class->settled.clear();
            size_class->by_stream.clear();
            size_class->slabs.clear_and_dispose([&](Slab* slab) { slabs_.remove(*slab); });
            size_class->empty_slabs = 0;
        }
}

void SmallPool::for_each_free(const std::function<void(std::byte*, std::size_t, std::uint64_t)>& visit) const {
    for (const Shard& shard : shards_)
        for (const auto& size_class : shard) {
            const std::lock_guard lock(size_class->mutex);
            for (const FreeSlot& slot : size_class->settled)
                visit(slot.ptr, size_class->slot_bytes, slot.time_ns);
            for (const auto& [id, slots] : size_class->by_stream)
                for (const FreeSlot& slot : slots)
                    visit(slot.ptr, size_class->slot_bytes, slot.time_ns);
        }
}

FreeFigures SmallPool::figures() const {
    FreeFigures figures;
    for_each_free([&](std::byte*, std::size_t bytes, std::uint64_t) {
        ++figures.blocks;
        figures.bytes += bytes;
        figures.largest_bytes = std::max(figures.largest_bytes, bytes);
    });
    return figures;
}

std::string SmallPool::check() const {
    for (const Shard& shard : shards_)
        for (const auto& size_class : shard) {
            const std::lock_guard lock(size_class->mutex);
            std::unordered_map<const Slab*, std::vector<const std::byte*>> found;
            for (const FreeSlot& slot : size_class->settled) {
                if (slot.ticket != nullptr) return "a settled slot has a ticket";
                found[slot.slab].push_back(slot.ptr);
            }
            for (const auto& [id, slots] : size_class->by_stream)
                for (const FreeSlot& slot : slots) {
                    if (slot.ticket == nullptr || slot.ticket->stream_id != id)
                        return "a slot is in another stream's list";
                    found[slot.slab].push_back(slot.ptr);
                }
            std::size_t empty = 0;
            for (const Slab& slab : size_class->slabs) {
                auto& slots = found[&slab];
                std::sort(slots.begin(), slots.end());
                if (std::adjacent_find(slots.begin(), slots.end()) != slots.end()) return "a slot is free twice";
                if (slots.size() != slab.free_slots) return "a slab's count of free slots is wrong";
                for (const std::byte* ptr : slots)
                    if (ptr < slab.memory->ptr || ptr + size_class->slot_bytes > slab.memory->end() ||
                        static_cast<std::size_t>(ptr - slab.memory->ptr) % size_class->slot_bytes != 0)
                        return "a free slot is not at a slot's place";
                empty += slab.free_slots == slab.slots;
            }
            if (empty != size_class->empty_slabs) return "a class's count of empty slabs is wrong";
            if (found.size() != size_class->slabs.size()) return "a free slot's slab is gone";
        }
    return {};
}

} // namespace cuda_zstd::detail
