// SPDX-License-Identifier: MIT
// What a hardened heap keeps in its arena: the quarantine, and the faults that were found.
//
// Invariant: a block in the ring is nobody's: whoever exchanges it for another owns it and gives it to the heap. So a
// block that is freed comes back to the heap when as many others as the ring has places were freed after it.
#pragma once

#include "cuda_zstd/core/hardening.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cstdint>

namespace cuda_zstd {

/// What only a hardened heap finds.
enum class Fault : std::uint32_t { none, red_zone, write_after_free, never_allocated };

/// The faults found so far.
struct FaultReport {
    std::uint32_t red_zones = 0;         ///< bytes before or behind a block were overwritten
    std::uint32_t writes_after_free = 0; ///< bytes of a freed block were overwritten
    std::uint32_t never_allocated = 0;   ///< blocks freed that were never handed out
    Fault first = Fault::none;
    std::uint64_t first_address = 0; ///< the block at which the first was found
};

template <class Env>
struct HardeningState {
    template <class T>
    using atom = typename Env::template atom<T>;

    atom<std::uint32_t>* counts = nullptr; ///< by Fault; [0] is the ring's next place
    atom<std::uint64_t>* first = nullptr;  ///< address << 8 | Fault, of the first
    atom<std::uint64_t>* ring = nullptr;

    static constexpr std::uint64_t live = 0x6c6976656c697665u;
    static constexpr std::uint64_t held = 0x68656c6468656c64u;
    static constexpr std::uint64_t freed = 0x6672656566726565u;
    static constexpr std::uint64_t guard = 0x6775617264677561u;
    static constexpr unsigned char zone_byte = 0xfd;
    static constexpr unsigned char poison_byte = 0xdb;

    static CUDA_ZSTD_HD HardeningState over(void* arena, const HeapLayout& layout) {
        char* const base = static_cast<char*>(arena) + layout.hardening_offset;
        return {reinterpret_cast<atom<std::uint32_t>*>(base), reinterpret_cast<atom<std::uint64_t>*>(base + 16),
                reinterpret_cast<atom<std::uint64_t>*>(base + 128)};
    }

    /// The number that stands for a state of the block at this address.
    static CUDA_ZSTD_INLINE std::uint64_t mark(const void* block, std::uint64_t state) {
        return (reinterpret_cast<std::uintptr_t>(block) + 1) * 0x9e3779b97f4a7c15u ^ state;
    }

    /// Puts a block into the ring; the one that it pushes out, or null.
    CUDA_ZSTD_HD char* hold(Env& env, char* block) const {
        const std::uint32_t place =
            env.fetch_add(counts[0], 1u, Order::relaxed) % (Hardening::quarantine_blocks + !Hardening::quarantine);
        return reinterpret_cast<char*>(
            env.exchange(ring[place], reinterpret_cast<std::uint64_t>(block), Order::acq_rel));
    }
    /// Takes out what is at a place: null where there is nothing, or no such place.
    CUDA_ZSTD_HD char* take(Env& env, unsigned place) const {
        if (place >= Hardening::quarantine_blocks) return nullptr;
        return reinterpret_cast<char*>(env.exchange(ring[place], std::uint64_t{0}, Order::acq_rel));
    }

    CUDA_ZSTD_HD void note(Env& env, Fault fault, const void* block) const {
        std::uint64_t none = 0;
        env.compare_exchange(*first, none,
                             reinterpret_cast<std::uint64_t>(block) << 8 | static_cast<std::uint64_t>(fault),
                             Order::relaxed);
        env.fetch_add(counts[static_cast<unsigned>(fault)], 1u, Order::relaxed);
    }

    CUDA_ZSTD_HD FaultReport faults(Env& env) const {
        const auto count = [&](Fault fault) { return env.load(counts[static_cast<unsigned>(fault)], Order::relaxed); };
        const std::uint64_t of_first = env.load(*first, Order::relaxed);
        return {count(Fault::red_zone), count(Fault::write_after_free), count(Fault::never_allocated),
                static_cast<Fault>(of_first & 0xffu), of_first >> 8};
    }
};

} // namespace cuda_zstd
