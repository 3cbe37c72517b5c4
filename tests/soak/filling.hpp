// SPDX-License-Identifier: MIT
// What a soak does beside random pairs: fills a heap, frees all that is in mailboxes, tells the host how far it is.
//
// Invariant: as in random_pairs.hpp, no block is dropped.
#pragma once

#include "tests/soak/mailbox.hpp"

namespace cuda_zstd::soak {

/// Empties the mailboxes: thread `thread` those from its number on, `threads` apart.
template <class Env>
struct EmptyBoxes {
    Mailbox<Env>* boxes;
    std::uint32_t box_count;
    Tally<Env>* tally;
    unsigned threads;

    CUDA_ZSTD_HD void operator()(Env& env, const BasicPoolRef<Env>& pool, unsigned thread) const {
        Counts counts;
        for (std::uint32_t at = thread; at < box_count; at += threads) {
            Block block{nullptr, 0, 0};
            if (take(env, boxes[at], block)) retire(env, pool, tally, block, counts);
        }
        env.fetch_add(tally->pairs, std::uint64_t{counts.pairs}, Order::relaxed);
    }
};

/// Allocates until null; block n of all goes into mailbox n. What does not find a mailbox is given back.
template <class Env>
struct Fill {
    Mailbox<Env>* boxes;
    std::uint32_t box_count;
    typename Env::template atom<std::uint32_t>* used;
    Tally<Env>* tally;
    std::uint64_t seed;
    std::uint64_t launch; ///< below 2^23
    Sizes sizes;
    std::uint32_t one_class;

    CUDA_ZSTD_HD void operator()(Env& env, const BasicPoolRef<Env>& pool, unsigned thread) const {
        Random own(mix(seed + launch) ^ mix(std::uint64_t{thread} << 32));
        Counts counts;
        while (counts.contended < most_contended) {
            const std::uint32_t bytes = pick_bytes(own, sizes, one_class);
            Status status;
            auto* const address = static_cast<unsigned char*>(pool.try_allocate(env, bytes, min_slot_bytes, status));
            if (address == nullptr) {
                if (status == Status::contended) {
                    ++counts.contended;
                    continue;
                }
                ++counts.full;
                break;
            }
            const std::uint32_t at = env.fetch_add(*used, 1u, Order::relaxed);
            const Block block{address, launch << 40 | at, bytes}; // no launch of pairs has this number
            stamp(block);
            if (at >= box_count || !put(env, boxes[at], block)) {
                retire(env, pool, tally, block, counts);
                break;
            }
        }
        env.fetch_add(tally->pairs, std::uint64_t{counts.pairs}, Order::relaxed);
        env.fetch_add(tally->full, std::uint64_t{counts.full}, Order::relaxed);
        env.fetch_add(tally->contended, std::uint64_t{counts.contended}, Order::relaxed);
    }

private:
    static constexpr std::uint32_t most_contended = 1000;
};

/// What the host reads of a tally, in pinned memory.
struct Progress {
    std::uint64_t pairs = 0, full = 0, contended = 0, faults = 0;
};

/// One thread: writes the counts of now where the host can read them once this is done.
template <class Env>
struct Snapshot {
    Tally<Env>* tally;
    Progress* progress;

    CUDA_ZSTD_HD void operator()(Env& env, const BasicPoolRef<Env>&, unsigned thread) const {
        if (thread != 0) return;
        *progress = {env.load(tally->pairs, Order::relaxed), env.load(tally->full, Order::relaxed),
                     env.load(tally->contended, Order::relaxed), env.load(tally->faults, Order::relaxed)};
    }
};

} // namespace cuda_zstd::soak
