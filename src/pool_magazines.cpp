// SPDX-License-Identifier: MIT
// What goes from the magazines back to the pools.
// A block in a magazine has no ticket yet. It gets one here: of the free that is being made on its stream, or of the
// stream's registration, or one that is left open for the stream's next free.
#include "cuda_zstd/host/error.hpp"
#include "pool_state.hpp"

#include <array>
#include <utility>

namespace cuda_zstd {

using namespace detail;

/// Puts a claimed block into the thread's magazine, after others have made room; false when it belongs to the pools.
bool MemoryPoolManager::State::keep(Record& record, const StreamRef& stream, ThreadCache& cache) {
    using Known = ThreadCache::Known;
    for (Known known = Known::to_be_asked;;) {
        ThreadCache::Leaving leaving;
        // Released outside the lock.
        TicketRef asked_for;
        {
            const OwnersStay stay(cache.lock());
            if (!cache.belongs(record, record.word(), record.usable_bytes(), stream.id)) return false;
            Magazine* magazine = cache.find(stream.id);
            if (magazine != nullptr && magazine->wants_record()) {
                // This free is recorded at once, and the stream's open ticket with it. Once: the next one stays at
                // hand.
                asked_for.swap(magazine->open);
                record.since_allocation.clear();
                record.publish({record.word().bits | RecordWord::unticketed_mark});
                return false;
            }
            switch (cache.make_room(record, stream.id, leaving, known)) {
            case ThreadCache::Room::made:
            case ThreadCache::Room::passes:
                magazine = cache.find(stream.id);
                return magazine != nullptr && cache.put(record, record.word(), *magazine, known);
            case ThreadCache::Room::refused:
                // So much is out of other streams' reach that this one is to be recorded at once. The stream's own
                // ticket covers what the block waited for.
                record.since_allocation.clear();
                record.publish({record.word().bits | RecordWord::unticketed_mark});
                return false;
            case ThreadCache::Room::leaving:
                break;
            }
        }
        if (leaving.stream_id != stream.id)
            give_late(cache, leaving);
        else
            give_deferred(cache, stream, leaving);
    }
}

/// From the owner's magazine, in a call on the stream.
void MemoryPoolManager::State::give_deferred(ThreadCache& from, const StreamRef& stream, ThreadCache::Leaving leaving) {
    try {
        TicketRef ticket = order_.defer(stream, leaving.chain.bytes);
        give_all(leaving.chain, ticket);
        const OwnersStay stay(from.lock());
        if (Magazine* magazine = from.find(stream.id)) magazine->open.swap(ticket);
    } catch (...) {
        strand(leaving.chain);
        throw;
    }
}

/// What the thread is about to bring to the pools; whether there was any.
bool MemoryPoolManager::State::pass_on(ThreadCache& cache, const StreamRef& stream) {
    ThreadCache::Leaving leaving;
    {
        const OwnersStay stay(cache.lock());
        leaving = cache.pass_on(stream.id);
    }
    if (leaving.chain.head == nullptr) return false;
    give_deferred(cache, stream, leaving);
    return true;
}

/// From a magazine to the pools. What is left of the chain after an exception is still the caller's.
void MemoryPoolManager::State::give_all(Chain& chain, const TicketRef& ticket) {
    std::array<GivenSlot, 64> slots;
    std::array<Block*, 16> blocks;
    std::size_t slot_count = 0;
    std::size_t block_count = 0;
    const auto give_blocks = [&] {
        if (block_count != 0) pool_of(*blocks[0]).give({blocks.data(), std::exchange(block_count, 0)}, ticket);
    };
    while (chain.head != nullptr) {
        Record& record = chain.pop();
        std::byte* ptr = record.ptr();
        Slab* slab = record.slab();
        Block* block = record.block();
        live_.retire(record, record.stream_id);
        if (slab == nullptr) {
            if (block_count == blocks.size() || (block_count != 0 && &pool_of(*blocks[0]) != &pool_of(*block)))
                give_blocks();
            blocks[block_count++] = block;
            continue;
        }
        slots[slot_count++] = {ptr, slab};
        if (slot_count < slots.size()) continue;
        give_blocks();
        give_slots({slots.data(), std::exchange(slot_count, 0)}, ticket);
    }
    give_blocks();
    give_slots({slots.data(), slot_count}, ticket);
}

/// Slots that are in no table, to the small pool. Those that it has no memory to list go to what no pool can take yet;
/// but a slot of a slab that is too small for the map, for which the table may then have no memory either, is out of
/// use until reset().
void MemoryPoolManager::State::give_slots(std::span<const GivenSlot> slots, const TicketRef& ticket) noexcept {
    for (const GivenSlot& slot : slots.subspan(small_.give(slots, ticket))) {
        try {
            Record& record = live_.insert(slot.ptr, *slot.slab);
            Dependencies pending(ticket);
            record.since_allocation.take(pending); // one ticket takes no memory
            record.stream_id = ticket != nullptr ? ticket->stream_id : 0;
            record.become(Record::State::cached);
            Chain one;
            one.push(record);
            strand(one);
        } catch (const std::bad_alloc&) {
        }
    }
}

void MemoryPoolManager::State::give_slot(std::byte* ptr, Slab& slab, const Dependencies& dependencies) noexcept {
    const GivenSlot slot{ptr, &slab};
    give_slots({&slot, 1}, dependencies.empty() ? nullptr : dependencies.front());
}

void MemoryPoolManager::State::give_late(ThreadCache& from, ThreadCache::Leaving leaving) {
    try {
        TicketRef ticket = late_ticket(leaving.stream_id, leaving.chain.bytes);
        give_all(leaving.chain, ticket);
        const std::lock_guard lock(from.lock());
        if (Magazine* magazine = from.find(leaving.stream_id)) magazine->open.swap(ticket);
    } catch (...) {
        strand(leaving.chain);
        throw;
    }
}

void MemoryPoolManager::State::strand(Chain chain) noexcept {
    const std::lock_guard lock(stranded_mutex_);
    while (chain.head != nullptr)
        stranded_.push(chain.pop());
}

std::size_t MemoryPoolManager::State::bytes_at_hand() const {
    // One lock after the other: who holds the caches' may strand a block.
    const std::size_t cached_bytes = caches_.cached_bytes();
    const std::lock_guard lock(stranded_mutex_);
    return cached_bytes + stranded_.bytes;
}

Dependencies MemoryPoolManager::State::stranded_pending() const {
    Dependencies pending;
    const std::lock_guard lock(stranded_mutex_);
    for (const Record* record = stranded_.head; record != nullptr; record = record->next)
        record->since_allocation.for_each([&](const TicketRef& ticket) { pending.add(ticket); });
    return pending;
}

/// What could not go to the pools before.
void MemoryPoolManager::State::collect_stranded() {
    Chain again;
    {
        const std::lock_guard lock(stranded_mutex_);
        std::swap(again, stranded_);
    }
    Chain still;
    try {
        while (again.head != nullptr) {
            Chain one;
            one.push(again.pop());
            Record& record = *one.head;
            try {
                if (record.since_allocation.empty())
                    give_all(one, late_ticket(record.stream_id, one.bytes));
                else if (Dependencies pending = record.since_allocation.get(); order_.settle(pending))
                    give_all(one, nullptr);
            } catch (...) {
                strand(one);
                throw;
            }
            if (one.head != nullptr) still.push(one.pop());
        }
    } catch (...) {
        strand(again);
        strand(still);
        throw;
    }
    strand(still);
}

/// Brings out what the pools can make use of for the stream now: its own blocks, and those of registered streams.
/// Blocks of others would only change from a magazine to a ticket that is open.
void MemoryPoolManager::State::collect_for(const StreamRef& stream) {
    collect_stranded();
    std::vector<std::uint64_t> streams{stream.id};
    {
        const std::lock_guard lock(registered_mutex_);
        for (const auto& [id, entry] : registered_)
            if (id != stream.id) streams.push_back(id);
    }
    caches_.for_each([&](ThreadCache& cache) {
        for (const std::uint64_t id : streams)
            collect(cache, id);
    });
}

void MemoryPoolManager::State::collect(ThreadCache& cache, std::uint64_t stream_id) {
    ThreadCache::Leaving leaving;
    {
        const std::lock_guard lock(cache.lock());
        leaving = cache.take_all(stream_id);
    }
    if (leaving.chain.head != nullptr) give_late(cache, leaving);
}

void MemoryPoolManager::State::collect(ThreadCache& cache) {
    for (;;) {
        ThreadCache::Leaving leaving;
        {
            const std::lock_guard lock(cache.lock());
            leaving = cache.take_all();
        }
        if (leaving.chain.head == nullptr) return;
        give_late(cache, leaving);
    }
}

/// Brings all blocks out of the magazines.
void MemoryPoolManager::State::collect() {
    collect_stranded();
    caches_.for_each([this](ThreadCache& cache) { collect(cache); });
}

/// The calling thread ends.
void MemoryPoolManager::State::leave(ThreadCache& cache) noexcept {
    if (backend.is_retired()) return;
    const Turnstile::Passage passage(turnstile_);
    for (;;) {
        try {
            collect(cache);
            break;
        } catch (const std::exception&) {
            // What could not be given is stranded; the rest is tried.
        }
    }
    caches_.merge(cache);
}

} // namespace cuda_zstd
