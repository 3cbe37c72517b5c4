// SPDX-License-Identifier: MIT
// Compaction on real threads: some allocate and free and look at their stamps, one puts lists in order, and reports are
// written by one thread while others read them. What it is for is ThreadSanitizer.
#include "../test_seed.hpp"
#include "cuda_zstd/env/solo_env.hpp"
#include "cuda_zstd/heap/audit.hpp"
#include "cuda_zstd/heap/compact_online.hpp"
#include "cuda_zstd/heap/format.hpp"
#include "cuda_zstd/heap/report_board.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace cuda_zstd;

struct Freer {
    void operator()(void* memory) const { std::free(memory); }
};

TEST(CompactThreads, ListsInOrderBesideThreadsThatAllocate) {
    constexpr std::size_t arena_bytes = std::size_t{8} << 20;
    constexpr unsigned workers = 3;
    const std::unique_ptr<void, Freer> arena(std::aligned_alloc(page_bytes, arena_bytes));
    HeapLayout layout = HeapLayout::for_arena(arena_bytes, 2);
    layout.slab_log2_pages = 1; // small slabs: long lists
    std::memset(arena.get(), 0, layout.metadata_bytes);
    solo_env set_up;
    format_heap(set_up, arena.get(), layout, 0, 1);
    const auto heap = Heap<solo_env>::over(arena.get(), layout);

    std::atomic<unsigned> working{workers};
    std::atomic<unsigned> wrong{0};
    std::atomic<std::uint64_t> ordered{0};
    const auto work = [&](unsigned thread) {
        solo_env env(thread);
        std::mt19937_64 random(test_seed(thread + 1));
        std::vector<std::uint64_t*> held;
        // Goes on until the other has had its turn.
        for (unsigned round = 0; round < 20000 || ordered < 500; ++round) {
            if (held.size() < 400 && random() % 100 < (round / 2000 % 2 == 0 ? 70 : 35)) {
                static constexpr std::size_t sizes[] = {1024, 2048, 8192, 70000};
                Status status = Status::ok;
                void* const memory = heap.allocate(env, 1, sizes[random() % 60 == 0 ? 3 : random() % 3], 16, status);
                if (memory == nullptr) continue;
                auto* const words = static_cast<std::uint64_t*>(memory);
                words[0] = words[127] = reinterpret_cast<std::uintptr_t>(words) + thread;
                held.push_back(words);
            } else if (!held.empty()) {
                std::swap(held[random() % held.size()], held.back());
                std::uint64_t* const words = held.back();
                held.pop_back();
                if (words[0] != reinterpret_cast<std::uintptr_t>(words) + thread || words[127] != words[0]) ++wrong;
                if (heap.deallocate(env, 1, words) != Status::ok) ++wrong;
            }
        }
        for (std::uint64_t* const words : held)
            if (heap.deallocate(env, 1, words) != Status::ok) ++wrong;
        --working;
    };
    const auto compact = [&] {
        solo_env env(1);
        std::uint32_t retired = 0;
        const auto segment = std::make_unique<ListOrder<solo_env>::Segment>();
        while (working != 0) {
            for (unsigned index = 0; index < size_class_count * layout.stations; ++index) {
                const ListOrder<solo_env> order(heap.supply(), index / layout.stations, index % layout.stations);
                ordered += order_list(env, order, *segment, whole_heap, retired, Effort::everywhere);
            }
        }
    };
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < workers; ++thread)
        threads.emplace_back(work, thread);
    threads.emplace_back(compact);
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(wrong, 0u);
    while (heap.supply().reclaim(set_up)) {
    }
    std::vector<char> memory(HeapAudit<solo_env>::work_bytes(layout.page_count));
    const AuditFinding finding = audit_heap(set_up, heap, memory.data());
    EXPECT_TRUE(finding) << name_of(finding.broken) << " at " << finding.where;
    EXPECT_EQ(set_up.load(heap.control(ControlCell::free_pages), Order::relaxed), layout.page_count);
}

TEST(CompactThreads, ReportsAreWholeWhileTheyAreWritten) {
    constexpr std::uint64_t reports = 20000;
    ReportBoard board{};
    std::vector<std::thread> readers;
    std::atomic<unsigned> torn{0};
    for (unsigned reader = 0; reader < 2; ++reader)
        readers.emplace_back([&] {
            solo_env env;
            for (std::uint64_t last = 0; last < reports;) {
                const HeapReport report = board.read(env);
                if (report.sequence < last || report.live_blocks != report.sequence * 3 ||
                    report.slabs_by_fill[9] != static_cast<std::uint32_t>(report.sequence * 5))
                    ++torn;
                last = report.sequence;
            }
        });
    solo_env env;
    for (std::uint64_t number = 1; number <= reports; ++number) {
        HeapReport report;
        report.sequence = number;
        report.live_blocks = number * 3;
        report.slabs_by_fill[9] = static_cast<std::uint32_t>(number * 5);
        board.put(env, report, 0, 1);
        board.announce(env, number);
    }
    for (std::thread& reader : readers)
        reader.join();
    EXPECT_EQ(torn, 0u);
}

} // namespace
