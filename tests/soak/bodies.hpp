// SPDX-License-Identifier: MIT
// What the kernels of a soak do, written once for both backends: random pairs through mailboxes; filling; freeing all.
//
// Invariant: a mailbox is empty, busy or full; only who made it busy touches what is in it. Nobody waits for a mailbox:
// a busy one is passed over. So a block is freed by whoever comes by: another lane, warp, kernel or stream.
#pragma once

#include "cuda_zstd/core/size_class.hpp"
#include "cuda_zstd/device/pool_ref.hpp"
#include "tests/soak/blocks.hpp"

namespace cuda_zstd::soak {

/// What a soak has done, in memory of the backend. Zero at first.
template <class Env>
struct Tally {
    typename Env::template atom<std::uint64_t> pairs; ///< blocks that were allocated, verified and freed
    typename Env::template atom<std::uint64_t> full;
    typename Env::template atom<std::uint64_t> contended;
    typename Env::template atom<std::uint64_t> faults;
    Fault first; ///< written by whoever counts the first fault
};

template <class Env>
struct Mailbox {
    typename Env::template atom<std::uint32_t> state; // empty, busy, full
    std::uint32_t bytes;
    unsigned char* address;
    std::uint64_t ticket;
};
inline constexpr std::uint32_t empty = 0, busy = 1, full = 2;

/// Which sizes a kernel asks for.
enum class Sizes : std::uint32_t { small, mixed, large, one_class, count };

CUDA_ZSTD_HD inline std::uint32_t pick_bytes(Random& random, Sizes sizes, std::uint32_t one_class) {
    const std::uint32_t kind = random.below(1000);
    switch (sizes) {
    case Sizes::small:
        return 1u + random.below(256);
    case Sizes::one_class:
        return slot_bytes_of(one_class) - random.below(16);
    case Sizes::large:
        if (kind < 900) return 1u + random.below(128u << 10);
        return 1u + random.below(2u << 20);
    default:
        if (kind < 600) return 1u + random.below(256);
        if (kind < 850) return 1u + random.below(4u << 10);
        if (kind < 970) return 1u + random.below(32u << 10);
        if (kind < 998) return 1u + random.below(256u << 10);
        return 1u + random.below(2u << 20);
    }
}

/// One thread's counts, added up at its end.
struct Counts {
    std::uint32_t pairs = 0, full = 0, contended = 0;
};

template <class Env>
CUDA_ZSTD_HD void report(Env& env, Tally<Env>* tally, const Fault& fault) {
    if (env.fetch_add(tally->faults, std::uint64_t{1}, Order::relaxed) == 0) tally->first = fault;
}

/// Verifies a block and gives it back.
template <class Env>
CUDA_ZSTD_HD void retire(Env& env, const BasicPoolRef<Env>& pool, Tally<Env>* tally, const Block& block,
                         Counts& counts) {
    Fault fault;
    if (!verify(block, fault)) report(env, tally, fault);
    const Status status = pool.try_deallocate(env, block.address);
    if (status != Status::ok) {
        const auto address = reinterpret_cast<std::uintptr_t>(block.address);
        report(env, tally, {address, block.ticket, no_word, 0, static_cast<std::uint64_t>(status), block.bytes});
    }
    ++counts.pairs;
}

/// Allocates and stamps a block; its address is null when there was none.
template <class Env>
CUDA_ZSTD_HD Block obtain(Env& env, const BasicPoolRef<Env>& pool, std::uint32_t bytes, std::uint64_t ticket,
                          Counts& counts) {
    Status status;
    auto* const address = static_cast<unsigned char*>(pool.try_allocate(env, bytes, min_slot_bytes, status));
    const Block block{address, ticket, bytes};
    if (address != nullptr) {
        stamp(block);
    } else if (status == Status::contended) {
        ++counts.contended;
    } else {
        ++counts.full;
    }
    return block;
}

/// Takes a block out of a mailbox, if there is one and nobody else does.
template <class Env>
CUDA_ZSTD_HD bool take(Env& env, Mailbox<Env>& box, Block& block) {
    std::uint32_t seen = full;
    if (!env.compare_exchange(box.state, seen, busy, Order::acquire)) return false;
    block = {box.address, box.ticket, box.bytes};
    env.store(box.state, empty, Order::release);
    return true;
}
template <class Env>
CUDA_ZSTD_HD bool put(Env& env, Mailbox<Env>& box, const Block& block) {
    std::uint32_t seen = empty;
    if (!env.compare_exchange(box.state, seen, busy, Order::acquire)) return false;
    box.address = block.address;
    box.ticket = block.ticket;
    box.bytes = block.bytes;
    env.store(box.state, full, Order::release);
    return true;
}

/// Random pairs. Every thread of a warp is given to it, so that the warp can add its counts up at the end.
template <class Env>
struct RandomPairs {
    Mailbox<Env>* boxes;
    std::uint32_t box_count;
    Tally<Env>* tally;
    std::uint64_t seed;
    std::uint64_t launch; ///< its number in the run; below 2^24
    std::uint32_t steps;  ///< of a thread; at most 256
    Sizes sizes;
    std::uint32_t one_class;

    CUDA_ZSTD_HD void operator()(Env& env, const BasicPoolRef<Env>& pool, unsigned thread) const {
        Random own(mix(seed + launch) ^ mix(std::uint64_t{thread} << 32));
        Random of_warp(mix(~seed - launch) ^ mix(std::uint64_t{thread / Env::warp_lanes} << 32));
        Counts counts;
        Block held{nullptr, 0, 0};
        for (std::uint32_t step = 0; step < steps; ++step) {
            if (sits_out(env, of_warp)) continue;
            const std::uint64_t ticket = launch << 40 | std::uint64_t{thread} << 8 | step;
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
        env.sync(low_bits(Env::warp_lanes));
        add(env, counts);
    }

private:
    /// All lanes, a random half, every second or one alone take part: the choice is the warp's.
    static CUDA_ZSTD_HD bool sits_out(Env& env, Random& of_warp) {
        const std::uint64_t number = of_warp.next();
        const unsigned lane = env.lane();
        switch (number >> 61) {
        case 0:
            return (number >> lane & 1u) != 0;
        case 1:
            return lane % 2u != (number & 1u) % Env::warp_lanes;
        case 2:
            return lane != number % Env::warp_lanes;
        default:
            return false;
        }
    }
    CUDA_ZSTD_HD void add(Env& env, const Counts& counts) const {
        const std::uint32_t pairs = env.warp_sum(counts.pairs);
        const std::uint32_t nulls = env.warp_sum(counts.full);
        const std::uint32_t waits = env.warp_sum(counts.contended);
        if (env.lane() != 0) return;
        env.fetch_add(tally->pairs, std::uint64_t{pairs}, Order::relaxed);
        env.fetch_add(tally->full, std::uint64_t{nulls}, Order::relaxed);
        env.fetch_add(tally->contended, std::uint64_t{waits}, Order::relaxed);
    }
};

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
    std::uint64_t launch; ///< below 2^24
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
            const Block block{address, launch << 40 | at, bytes};
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
