// SPDX-License-Identifier: MIT
// The wide mixture of a soak's random pairs: all sizes, heaps that are full, odd masks, whole warps at once.
//
// Invariant: every block that a thread gets is stamped, and is then held, put into a mailbox, or verified and freed;
// none is dropped.
#pragma once

#include "cuda_zstd/env/whole_warp.hpp"
#include "tests/soak/mailbox.hpp"

namespace cuda_zstd::soak {

/// Most blocks that a warp takes at once.
inline constexpr std::uint32_t list_length = 64;

/// Random pairs. Every thread of a warp is given to it, so that the warp can add its counts up at the end.
template <class Env>
struct RandomPairs {
    Mailbox<Env>* boxes;
    std::uint32_t box_count;
    Tally<Env>* tally;
    void** lists; ///< list_length places for each warp
    std::uint64_t seed;
    std::uint64_t launch; ///< its number in the run; below 2^23
    std::uint32_t steps;  ///< of a thread; at most 256
    Sizes sizes;
    std::uint32_t one_class;

    CUDA_ZSTD_HD void operator()(Env& env, const BasicPoolRef<Env>& pool, unsigned thread) const {
        Random own(mix(seed + launch) ^ mix(std::uint64_t{thread} << 32));
        Random of_warp(mix(~seed - launch) ^ mix(std::uint64_t{thread / Env::warp_lanes} << 32));
        Counts counts;
        Block held{nullptr, 0, 0};
        for (std::uint32_t step = 0; step < steps; ++step) {
            if (of_warp.below(16) == 0) {
                env.sync(whole_warp<Env>);
                many_at_once(env, pool, of_warp, own, thread, step, counts);
                continue;
            }
            if (sits_out(env, of_warp)) continue;
            const std::uint64_t ticket = ticket_of(launch, thread, step, 0);
            const std::uint32_t way = own.below(8);
            Mailbox<Env>& box = boxes[own.below(box_count)];
            Block block{nullptr, 0, 0};
            if (way < 2 && held.address != nullptr) {
                retire(env, pool, tally, held, counts); // its own, a few steps old
                held.address = nullptr;
            } else if (way < 5 && take(env, box, block)) {
                retire(env, pool, tally, block, counts);
            } else {
                block = obtain(env, pool, pick_bytes(own, sizes, one_class), ticket, counts);
                if (block.address == nullptr) {
                    // Full: what lies in the mailboxes is what there is to give back.
                    if (take(env, box, block)) retire(env, pool, tally, block, counts);
                } else if (held.address == nullptr && way == 7) {
                    held = block;
                } else if (!put(env, box, block)) {
                    retire(env, pool, tally, block, counts);
                }
            }
        }
        if (held.address != nullptr) retire(env, pool, tally, held, counts);
        env.sync(whole_warp<Env>);
        add_up(env, tally, counts);
    }

private:
    /// Up to list_length blocks of one size for the warp; some go into mailboxes, the others back together.
    CUDA_ZSTD_HD void many_at_once(Env& env, const BasicPoolRef<Env>& pool, Random& of_warp, Random& own,
                                   unsigned thread, std::uint32_t step, Counts& counts) const {
        constexpr LaneMask lanes = whole_warp<Env>;
        void** const list = lists + thread / Env::warp_lanes * list_length;
        const std::uint32_t bytes = pick_bytes(of_warp, sizes == Sizes::large ? Sizes::mixed : sizes, one_class);
        const std::uint32_t wanted = 1u + of_warp.below(list_length);
        const Shortfall shortfall = of_warp.below(2) == 0 ? Shortfall::keep : Shortfall::give_back;
        Status status;
        std::uint32_t taken = pool.allocate_many(env, lanes, bytes, min_slot_bytes, wanted, list, shortfall, status);
        if (taken < wanted) {
            if (env.lane() == 0) ++(status == Status::contended ? counts.contended : counts.full);
            if (shortfall == Shortfall::give_back) taken = 0;
        }
        for (std::uint32_t at = env.lane(); at < taken; at += Env::warp_lanes) {
            const Block block{static_cast<unsigned char*>(list[at]), ticket_of(launch, thread, step, at), bytes};
            stamp(block);
            if (own.below(2) == 0 && put(env, boxes[own.below(box_count)], block)) {
                list[at] = nullptr;
                continue;
            }
            Fault fault;
            if (!verify(block, fault)) report(env, tally, fault);
            ++counts.pairs;
        }
        env.sync(lanes); // the list is as all lanes left it
        const std::uint32_t refused = pool.deallocate_many(env, lanes, taken, list);
        if (refused != 0 && env.lane() == 0)
            report(env, tally,
                   {reinterpret_cast<std::uintptr_t>(list), ticket_of(launch, thread, step, 0), no_word, 0, refused,
                    bytes});
        env.sync(lanes); // before another call writes the list
    }
};

} // namespace cuda_zstd::soak
