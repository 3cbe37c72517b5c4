// SPDX-License-Identifier: MIT
// The audit of users' blocks: what a hardened build knows of every block that lives or waits.
// Invariant: nobody else uses the heap. Threads of one team share out the pages; barriers separate the steps. Besides
// noting faults nothing is changed.
#pragma once

#include "cuda_zstd/device/fault_report.hpp"
#include "cuda_zstd/device/hardened_heap.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// What the team counts; zero before the first step.
template <class Env>
struct LiveTally {
    typename Env::template atom<std::uint64_t> blocks;
    typename Env::template atom<std::uint64_t> bytes;
    typename Env::template atom<std::uint32_t> records;
};

template <class Env>
CUDA_ZSTD_HD void audit_blocks(Env& env, const HardenedHeap<Env>& heap, LiveTally<Env>& tally, FaultReport& report,
                               std::uint32_t thread, std::uint32_t threads) {
    heap.check_blocks(env, thread, threads, [&](const void* block, std::uint64_t bytes, const KnownPlace& place) {
        env.fetch_add(tally.blocks, std::uint64_t{1}, Order::relaxed);
        env.fetch_add(tally.bytes, bytes, Order::relaxed);
        if (env.load(tally.records, Order::relaxed) >= FaultReport::most_records) return;
        const std::uint32_t at = env.fetch_add(tally.records, 1u, Order::relaxed);
        if (at >= FaultReport::most_records) return;
        LiveRecord& record = report.live[at];
        record.block = reinterpret_cast<std::uint64_t>(block);
        record.bytes = bytes;
        HardeningState<Env>::copy_place(record.allocated, place);
    });
}

/// Behind a barrier, by one thread.
template <class Env>
CUDA_ZSTD_HD void conclude_blocks(Env& env, const HardenedHeap<Env>& heap, LiveTally<Env>& tally, FaultReport& report) {
    heap.state().report(env, report);
    const std::uint32_t records = env.load(tally.records, Order::relaxed);
    report.live_record_count = records < FaultReport::most_records ? records : FaultReport::most_records;
    report.live_blocks = env.load(tally.blocks, Order::relaxed);
    report.live_bytes = env.load(tally.bytes, Order::relaxed);
}

} // namespace cuda_zstd
