// SPDX-License-Identifier: MIT
// What the kernels of a soak share: mailboxes that blocks wait in, what was done and found, sizes.
//
// Invariant: a mailbox is empty, busy or full; only who made it busy touches what is in it. Nobody waits for a mailbox:
// a busy one is passed over. So a block is freed by whoever comes by: another lane, warp, kernel or stream.
#pragma once

#include "cuda_zstd/core/size_class.hpp"
#include "cuda_zstd/device/pool_ref.hpp"
#include "tests/soak/blocks.hpp"
#include "tests/soak/marks.hpp"

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

/// Whether the block of this ticket has marks; else it has stamps.
CUDA_ZSTD_HD inline bool has_marks(std::uint64_t ticket) { return ticket >> 63 != 0; }

/// The name of a block with stamps: no two of a run have the same. Below 2^23 launches, 2^22 threads, 256 steps; of a
/// step at most 1,024 blocks.
CUDA_ZSTD_HD inline std::uint64_t ticket_of(std::uint64_t launch, std::uint32_t thread, std::uint32_t step,
                                            std::uint32_t nth) {
    return launch << 40 | std::uint64_t{thread} << 18 | nth << 8 | step;
}
/// Of a block with marks: below 2^18 steps, each of one block.
CUDA_ZSTD_HD inline std::uint64_t marks_ticket_of(std::uint64_t launch, std::uint32_t thread, std::uint32_t step) {
    return std::uint64_t{1} << 63 | launch << 40 | std::uint64_t{thread} << 18 | step;
}

/// One thread's counts, added up at its end.
struct Counts {
    std::uint32_t pairs = 0, full = 0, contended = 0;
};

/// Adds up what the lanes of a warp counted; all of them call together.
template <class Env>
CUDA_ZSTD_HD void add_up(Env& env, Tally<Env>* tally, const Counts& counts) {
    const std::uint32_t pairs = env.warp_sum(counts.pairs);
    const std::uint32_t nulls = env.warp_sum(counts.full);
    const std::uint32_t waits = env.warp_sum(counts.contended);
    if (env.lane() != 0) return;
    env.fetch_add(tally->pairs, std::uint64_t{pairs}, Order::relaxed);
    env.fetch_add(tally->full, std::uint64_t{nulls}, Order::relaxed);
    env.fetch_add(tally->contended, std::uint64_t{waits}, Order::relaxed);
}

/// All lanes, a random half, every second or one alone take part: the choice is the warp's.
template <class Env>
CUDA_ZSTD_HD bool sits_out(Env& env, Random& of_warp) {
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

template <class Env>
CUDA_ZSTD_HD void report(Env& env, Tally<Env>* tally, const Fault& fault) {
    if (env.fetch_add(tally->faults, std::uint64_t{1}, Order::relaxed) == 0) tally->first = fault;
}

/// Verifies a block and gives it back.
template <class Env, class Pool>
CUDA_ZSTD_HD void retire(Env& env, const Pool& pool, Tally<Env>* tally, const Block& block, Counts& counts) {
    Fault fault;
    if (!(has_marks(block.ticket) ? verify_marks(block, fault) : verify(block, fault))) report(env, tally, fault);
    const Status status = pool.try_deallocate(env, block.address);
    if (status != Status::ok) {
        const auto address = reinterpret_cast<std::uintptr_t>(block.address);
        report(env, tally, {address, block.ticket, no_word, 0, static_cast<std::uint64_t>(status), block.bytes});
    }
    ++counts.pairs;
}

/// Allocates and stamps a block; its address is null when there was none.
template <class Env, class Pool>
CUDA_ZSTD_HD Block obtain(Env& env, const Pool& pool, std::uint32_t bytes, std::uint64_t ticket, Counts& counts) {
    Status status;
    auto* const address = static_cast<unsigned char*>(pool.try_allocate(env, bytes, min_slot_bytes, status));
    const Block block{address, ticket, bytes};
    if (address != nullptr) {
        if (has_marks(ticket))
            write_marks(block);
        else
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

} // namespace cuda_zstd::soak
