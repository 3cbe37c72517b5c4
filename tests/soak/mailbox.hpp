// SPDX-License-Identifier: MIT
// What the kernels of a soak share: mailboxes that blocks wait in, what was done and found, sizes.
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

/// The name of a block: no two of a run have the same. Below 2^24 launches, 2^22 threads, 256 steps; of a step at most
/// 1,024 blocks.
CUDA_ZSTD_HD inline std::uint64_t ticket_of(std::uint64_t launch, std::uint32_t thread, std::uint32_t step,
                                            std::uint32_t nth) {
    return launch << 40 | std::uint64_t{thread} << 18 | nth << 8 | step;
}

} // namespace cuda_zstd::soak
