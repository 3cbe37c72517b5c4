// SPDX-License-Identifier: MIT
// Slabs by address, and the records of their slots: what is there is found, while slabs come and go, and an address
// gets its block once.
#include "../test_seed.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/live_table.hpp"
#include "cuda_zstd_memory_pool_enhanced.h"
#include "manual_backend.hpp"
#include "pool_state.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <random>
#include <thread>
#include <vector>

namespace cuda_zstd {
namespace {

using detail::BlockRecord;
using detail::LiveTable;
using detail::Slab;
using detail::SlabMap;
using State = BlockRecord::State;

constexpr std::size_t KiB = 1024;

std::byte* address(std::size_t offset) { return reinterpret_cast<std::byte*>((std::uintptr_t{1} << 45) + offset); }

/// What the manager does when it hands a slot out.
void hand_out(BlockRecord& record, std::uint64_t number) {
    record.become_plain(State::claimed);
    record.publish(record.word().renewed(State::live, number, PoolKind::small, 0));
}

TEST(SlabMap, FindsEverySlotOfTheSlabsThatThereAre) {
    SlabMap map;
    struct Held {
        Slab* slab = nullptr;
        std::size_t memory_bytes = 0;
    };
    std::map<std::size_t, Held> held;
    std::mt19937_64 random(test_seed(1));
    const auto slab_at = [&](std::size_t offset) -> Slab* {
        const auto after = held.upper_bound(offset);
        if (after == held.begin()) return nullptr;
        const auto& [begin, found] = *std::prev(after);
        return offset < begin + found.slab->bytes && found.slab->is_mapped ? found.slab : nullptr;
    };
    for (unsigned i = 0; i < 20'000; ++i) {
        const std::size_t begin = random() % (std::size_t{96} << 12) * 256;
        const std::size_t memory_bytes = std::array{4 * KiB, 64 * KiB, 128 * KiB, 1024 * KiB}[random() % 4];
        const auto after = held.lower_bound(begin);
        const bool is_free =
            (after == held.end() || begin + memory_bytes <= after->first) &&
            (after == held.begin() || std::prev(after)->first + std::prev(after)->second.memory_bytes <= begin);
        if (is_free) {
            const std::size_t slot_bytes = std::min(memory_bytes, 256 * (1 + random() % 80));
            Slab& slab = map.add(address(begin), memory_bytes, static_cast<std::uint32_t>(slot_bytes), 0);
            EXPECT_EQ(slab.slots, std::min<std::size_t>(memory_bytes / slot_bytes, Slab::most_slots));
            EXPECT_EQ(slab.is_mapped, memory_bytes >= 64 * KiB) << "two at most in a page";
            held[begin] = {&slab, memory_bytes};
        } else if (random() % 2 == 0 && after != held.end()) {
            map.remove(*after->second.slab);
            held.erase(after);
        }
        const std::size_t offset = random() % (std::size_t{97} << 20);
        Slab* slab = slab_at(offset);
        BlockRecord* const found = map.find(address(offset));
        ASSERT_EQ(found != nullptr, slab != nullptr);
        if (slab == nullptr) continue;
        ASSERT_EQ(found->slab(), slab);
        EXPECT_EQ(found->ptr(), slab->slot(found->word().place()));
        EXPECT_LE(found->ptr(), address(offset));
        EXPECT_GT(found->ptr() + found->usable_bytes(), address(offset));
    }
    std::size_t records = 0;
    map.for_each([&](const BlockRecord&) { ++records; });
    for (const auto& [begin, each] : held)
        records -= each.slab->slots;
    EXPECT_EQ(records, 0u);
}

TEST(SlabMap, AnAddressIsClaimedAtItsSlotsBeginningAndOnce) {
    SlabMap map;
    Slab& slab = map.add(address(512), 64 * KiB, 768, 2);
    BlockRecord& record = *map.find(address(512 + 5 * 768));
    EXPECT_EQ(record.claim(record.ptr(), State::live).bits, 0u) << "the pools have it";
    hand_out(record, 7);
    for (const std::size_t inside : {1u, 256u, 767u}) {
        EXPECT_EQ(map.find(record.ptr() + inside), &record);
        EXPECT_EQ(record.claim(record.ptr() + inside, State::live).bits, 0u);
    }
    EXPECT_EQ(record.claim(record.ptr(), State::device_arena).bits, 0u);
    EXPECT_EQ(record.claim(record.ptr(), State::live).sequence(), 7u);
    EXPECT_EQ(record.claim(record.ptr(), State::live).bits, 0u);
    record.become_plain(State::absent);
    map.remove(slab);
    EXPECT_EQ(map.find(address(512 + 5 * 768)), nullptr);
    EXPECT_EQ(&map.add(address(1 << 30), 64 * KiB, 768, 2), &slab) << "a slab is used again for as many slots";
    EXPECT_EQ(map.find(address(512 + 5 * 768)), nullptr);
}

/// Readers ask for addresses at random, without a lock, while slabs come, are used up and go, most of them in the
/// records of others.
TEST(SlabMap, EachSlotIsClaimedOnceWhileSlabsComeAndGo) {
    constexpr std::size_t places = 6;
    constexpr std::size_t place_bytes = 80 * KiB;
    SlabMap map;
    std::atomic<bool> ends{false};
    std::atomic<std::byte*> newest{nullptr};
    std::atomic<std::uint64_t> claims{0};
    std::atomic<std::uint64_t> mistakes{0};
    const auto claim_at = [&](const std::byte* ptr) -> bool {
        BlockRecord* record = map.find(ptr);
        if (record == nullptr || record->claim(ptr, State::live).state() != State::claimed) return false;
        mistakes.fetch_add(record->ptr() != ptr || record->time_ns != record->word().sequence());
        record->become_plain(State::absent);
        claims.fetch_add(1);
        return true;
    };
    std::vector<std::thread> readers;
    for (unsigned t = 0; t < 3; ++t)
        readers.emplace_back([&, t] {
            std::mt19937_64 random(test_seed(2 + t));
            while (!ends.load()) {
                claim_at(address(random() % (places * place_bytes / 256) * 256));
                // All at the same ones.
                const std::byte* const from = newest.load();
                for (std::size_t slot = 0; from != nullptr && slot < 64; ++slot)
                    claim_at(from + slot * KiB);
            }
        });
    std::mt19937_64 random(test_seed(1));
    std::uint64_t number = 0;
    std::uint64_t own_claims = 0;
    // Till the readers have had many.
    while (claims.load() - own_claims < 20'000) {
        const std::size_t begin = random() % places * place_bytes + random() % 64 * 256;
        Slab& slab = map.add(address(begin), 64 * KiB, 1024, 0);
        for (std::uint32_t i = 0; i < slab.slots; ++i) {
            slab.records()[i].time_ns = ++number;
            hand_out(slab.records()[i], number);
        }
        newest.store(slab.base);
        for (std::uint32_t i = 0; i < slab.slots; ++i)
            own_claims += claim_at(slab.slot(i));
        for (std::uint32_t i = 0; i < slab.slots; ++i)
            while (slab.records()[i].state() != State::absent)
                std::this_thread::yield();
        map.remove(slab);
    }
    ends.store(true);
    for (std::thread& reader : readers)
        reader.join();
    EXPECT_EQ(claims.load(), number);
    EXPECT_EQ(mistakes.load(), 0u);
}

TEST(LiveTable, HoldsTheSlotsOfASlabThatIsTooSmallForTheMap) {
    SlabMap map;
    LiveTable table(map);
    for (const std::size_t memory_bytes : {8 * KiB, 64 * KiB}) {
        Slab& slab = map.add(address(3 * KiB), memory_bytes, 4 * KiB, 0);
        std::byte* const ptr = slab.slot(1);
        EXPECT_EQ(table.find_beside_all(ptr), nullptr);
        BlockRecord& record = table.insert(ptr, slab);
        EXPECT_EQ(&record, slab.records() + 1);
        EXPECT_EQ(table.find(ptr), &record);
        EXPECT_EQ(table.find_beside_all(ptr), &record);
        EXPECT_EQ(table.find_beside_all(ptr + 256), nullptr);
        (void)record.begin(record.word(), 4 * KiB, 4000);
        record.publish(record.word().renewed(State::live, 3, PoolKind::small, 0));
        EXPECT_EQ(record.requested_bytes(), 4000u);
        EXPECT_EQ(table.live().size(), 1u);
        record.become(State::claimed);
        table.retire(record, 5);
        EXPECT_EQ(table.find_beside_all(ptr), nullptr);
        EXPECT_NE(table.explain(ptr).find("already free, freed on stream 5: 4000 bytes"), std::string::npos);
        (void)table.insert(ptr, slab);
        record.publish(record.word().renewed(State::live, 4, PoolKind::small, 0));
        EXPECT_EQ(table.invalidate_all(), 1u);
        EXPECT_EQ(table.find_beside_all(ptr), nullptr);
        EXPECT_NE(table.explain(ptr).find("invalidated by reset()"), std::string::npos);
        map.remove(slab);
    }
}

TEST(PackedDependencies, HoldNoneOneOrSeveralTickets) {
    detail::ManualBackend backend(2);
    detail::StreamOrder order(backend);
    {
        detail::PackedDependencies packed;
        packed.set_beside(0xFFFF);
        for (unsigned tickets = 0; tickets <= 2; ++tickets) {
            detail::Dependencies dependencies;
            for (unsigned id = 1; id <= tickets; ++id)
                dependencies.add(order.record({detail::ManualBackend::handle(id), id}));
            packed.take(dependencies);
            EXPECT_TRUE(dependencies.empty());
            EXPECT_EQ(packed.empty(), tickets == 0);
            EXPECT_EQ(packed.get().size(), tickets);
            unsigned visited = 0;
            packed.for_each([&](const detail::TicketRef& ticket) { visited += ticket->references.load() != 0; });
            EXPECT_EQ(visited, tickets);
            detail::PackedDependencies other;
            other.set_beside(3);
            packed.swap(other);
            EXPECT_TRUE(packed.empty());
            EXPECT_EQ(other.get().size(), tickets);
            EXPECT_EQ(packed.beside(), 0xFFFF);
            other.clear();
            EXPECT_TRUE(other.empty());
            EXPECT_EQ(other.beside(), 3);
        }
    }
    EXPECT_LE(order.events(), 2u) << "every ticket has come back to its shelf before the next";
}

/// Threads free what begins nowhere, inside of slots, free slots and slabs that have gone, while others use and trim
/// the pool: each such free is refused, and nobody loses a block.
TEST(SlabMap, AWrongFreeIsRefusedWhileSlabsComeAndGo) {
    PoolOptions options;
    options.backend = BackendKind::host;
    options.max_bytes = std::size_t{64} << 20;
    options.diagnostics = nullptr;
    MemoryPoolManager pool(options);
    Backend& backend = Backend::get(BackendKind::host);
    std::array<std::atomic<std::byte*>, 64> seen{};
    std::atomic<unsigned> at_work{2};
    std::vector<std::thread> owners;
    for (unsigned t = 0; t < 2; ++t)
        owners.emplace_back([&, t] {
            const cudaStream_t stream = backend.create_stream();
            std::mt19937_64 random(test_seed(10 + t));
            for (unsigned round = 0; round < 200; ++round) {
                std::vector<std::byte*> blocks(300);
                for (std::byte*& block : blocks) {
                    block = static_cast<std::byte*>(pool.allocate(1 + random() % 3000, stream));
                    *block = static_cast<std::byte>(t);
                    seen[random() % seen.size()].store(block);
                }
                for (std::byte* block : blocks) {
                    EXPECT_EQ(*block, static_cast<std::byte>(t));
                    pool.deallocate(block, stream);
                }
                if (round % 8 == 0) pool.trim();
            }
            backend.destroy_stream(stream);
            at_work.fetch_sub(1);
        });
    std::mt19937_64 random(test_seed(20));
    unsigned refused = 0;
    while (at_work.load() != 0) {
        std::byte* const block = seen[random() % seen.size()].load();
        if (block == nullptr) continue;
        EXPECT_THROW(pool.deallocate(block + 1 + random() % 255), usage_error);
        ++refused;
    }
    for (std::thread& owner : owners)
        owner.join();
    EXPECT_GT(refused, 0u);
    EXPECT_EQ(pool.statistics().live_blocks, 0u);
    EXPECT_EQ(PoolInspector::check(pool), "");
}

} // namespace
} // namespace cuda_zstd
