// SPDX-License-Identifier: MIT
// Relocation as one thread block does it: the blocks of a table's handles leave the chunks that are to be cleared.
//
// Invariant: an entry names the old block or the new one, which has the same bytes. Whole warps call; the lanes of a
// warp copy each block together.
#pragma once

#include "cuda_zstd/device/pool_handle.hpp"
#include "cuda_zstd/env/whole_warp.hpp"
#include "cuda_zstd/heap/evacuation.hpp"

#include <cstdint>

namespace cuda_zstd::detail {

/// Copies `bytes` by the lanes of a warp, 16 at a time.
template <class Env>
CUDA_ZSTD_HD void copy_by_warp(Env& env, char* to, const char* from, std::uint64_t bytes) {
    struct alignas(16) Unit {
        std::uint64_t low;
        std::uint64_t high;
    };
    const std::uint64_t units = bytes / sizeof(Unit);
    for (std::uint64_t unit = env.lane(); unit < units; unit += Env::warp_lanes)
        reinterpret_cast<Unit*>(to)[unit] = reinterpret_cast<const Unit*>(from)[unit];
    for (std::uint64_t at = units * sizeof(Unit) + env.lane(); at < bytes; at += Env::warp_lanes)
        to[at] = from[at];
}

/// Moves what is to be moved; for warp `warp` of `warps`.
template <class Env>
CUDA_ZSTD_HD void move_blocks(Env& env, const BasicHandleRef<Env>& table, const Evacuation<Env>& evacuation,
                              std::uint32_t warp, std::uint32_t warps) {
    const auto& heap = table.heap();
    const LaneMask all = whole_warp<Env>;
    const std::uint64_t stride = std::uint64_t{warps} * Env::warp_lanes;
    for (std::uint64_t first = std::uint64_t{warp} * Env::warp_lanes; first < table.capacity(); first += stride) {
        const std::uint64_t index = first + env.lane();
        HandleEntry entry;
        if (index < table.capacity())
            entry = HandleEntry{env.load(table.entry(static_cast<std::uint32_t>(index)), Order::relaxed)};
        char* from = nullptr;
        char* to = nullptr;
        std::uint64_t bytes = 0;
        if (entry.place() != 0) {
            from = static_cast<char*>(table.block_of(entry.place()));
            if (!evacuation.is_to_move(env, static_cast<std::uint32_t>((from - heap.pages_base()) >> page_shift)))
                from = nullptr;
        }
        const LaneMask moving = env.ballot(all, from != nullptr);
        if (moving == 0) continue;
        if (from != nullptr) {
            bytes = heap.usable_size(env, from);
            Status status;
            to = static_cast<char*>(heap.allocate(env, moving, bytes, min_slot_bytes, status));
            env.fetch_add(table.cell(to != nullptr ? HandleCell::moved_blocks : HandleCell::kept_blocks), 1u,
                          Order::relaxed);
        }
        env.sync(all);
        for (LaneMask left = env.ballot(all, to != nullptr); left != 0; left &= left - 1) {
            const unsigned lane = lowest_bit(left);
            auto* const target = reinterpret_cast<char*>(env.shfl(all, reinterpret_cast<std::uint64_t>(to), lane));
            auto* const source = reinterpret_cast<char*>(env.shfl(all, reinterpret_cast<std::uint64_t>(from), lane));
            copy_by_warp(env, target, source, env.shfl(all, bytes, lane));
        }
        env.sync(all); // every lane's reads of the old blocks come before these are freed
        if (to != nullptr) {
            env.store(table.entry(static_cast<std::uint32_t>(index)), entry.with_place(table.place_of(to)).raw,
                      Order::release);
            env.fetch_add(table.cell(HandleCell::moved_units), static_cast<std::uint32_t>(bytes / min_slot_bytes),
                          Order::relaxed);
        }
        heap.deallocate(env, all, to != nullptr ? from : nullptr);
    }
}

} // namespace cuda_zstd::detail
