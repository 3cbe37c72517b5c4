// SPDX-License-Identifier: MIT
// A heap's pulse: a few counts for the host.
// Invariant: the sequence number is 0 while the rest is written and set last, as in a report (publish.hpp).
#pragma once

#include "cuda_zstd/heap/heap.hpp"
#include "kernels/chunk_launch.hpp"

#include <cstdint>

namespace cuda_zstd::detail {

template <class Env>
CUDA_ZSTD_HD void publish_pulse(Env& env, const Heap<Env>& heap, HeapPulse* pulse, std::uint64_t sequence) {
    using Cell = typename Env::template atom<std::uint64_t>;
    const auto count = [&](ControlCell which) { return std::uint64_t{env.load(heap.control(which), Order::relaxed)}; };
    auto* const cells = reinterpret_cast<Cell*>(pulse);
    static_assert(sizeof(HeapPulse) == 5 * sizeof(Cell));
    env.store_for_host(cells[0], std::uint64_t{0});
    env.store_for_host(cells[1], count(ControlCell::failures));
    env.store_for_host(cells[2], count(ControlCell::first_failed_bytes));
    env.store_for_host(cells[3], count(ControlCell::mapped_pages));
    env.store_for_host(cells[4], count(ControlCell::free_pages));
    env.store_for_host(cells[0], sequence);
}

} // namespace cuda_zstd::detail
