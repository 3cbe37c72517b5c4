// SPDX-License-Identifier: MIT
// What lies around a block of a hardened heap: a header before it, and the red zone behind it.
//
// Invariant: `state` is a number that depends on the block's address, so that no other bytes are taken for a header.
// The seal, next to the block, stands for all that was written at the allocation: while it is right, that is believed.
// A header outlives its block. What it says of the block's bytes holds as long as nobody else has had them: while the
// slab is the one that it names (SlotLife), and no other block was in the slot.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/device/hardening_state.hpp"
#include "cuda_zstd/heap/page_entry.hpp"
#include "cuda_zstd/heap/slab.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// A slot's life, from the making of its slab to the end of it.
struct SlotLife {
    static constexpr unsigned bits = 27;
    static constexpr std::uint32_t of_a_run = (1u << bits) - 1u;

    std::uint32_t slot_bytes = 0; ///< 0: a run of pages, which has no life beyond its block's
    /// No other's at this address, until 2^14 slabs that began at the same page have ended.
    std::uint32_t number = of_a_run;

    /// The life of the slot that a page of a slab with this entry and word is in.
    static CUDA_ZSTD_INLINE SlotLife of(PageEntry entry, SlabWord word) {
        const auto generation = static_cast<std::uint32_t>(word.raw) >> SlabWord::generation_shift;
        return {entry.slot_size().bytes(), (generation << 7 | entry.pages_before()) & of_a_run};
    }
};

template <class Env>
struct HardenedHeader {
    template <class T>
    using atom = typename Env::template atom<T>;
    using State = HardeningState<Env>;

    static constexpr std::uint32_t rear_bytes = Hardening::red_zones ? 32 : 0;

    atom<std::uint64_t> state;
    std::uint64_t bytes;
    std::uint32_t origin; ///< log2 of the bytes in front of the block in its slot or run, above the life's number
    std::uint32_t line;   ///< of the allocation
    const char* file;
    const char* function;
    // A free that comes too late reads them while the first one may be writing.
    atom<std::uint64_t> freed_file; ///< 0 while the block lives
    atom<std::uint64_t> freed_line; ///< sealed; 0 while the block lives
    std::uint64_t seal;

    static CUDA_ZSTD_INLINE HardenedHeader& of(const void* block) {
        return *(reinterpret_cast<HardenedHeader*>(const_cast<char*>(static_cast<const char*>(block))) - 1);
    }

    /// Of a block that is about to live.
    CUDA_ZSTD_HD void write(Env& env, char* block, std::size_t size, std::uint32_t front, const SlotLife& life,
                            const KnownPlace& place) {
        bytes = size;
        origin = highest_bit(front) << SlotLife::bits | life.number;
        line = place.line;
        file = place.file;
        function = place.function;
        env.store(freed_file, std::uint64_t{0}, Order::relaxed);
        env.store(freed_line, std::uint64_t{0}, Order::relaxed);
        seal = right_seal(block);
        if (Hardening::red_zones) fill(block + size, rear_bytes, State::zone_byte);
    }
    /// By the free that has taken the block. Whoever reads one of the words reads a state that is not live any more.
    CUDA_ZSTD_HD void write_free(Env& env, const char* block, const KnownPlace& place) {
        const auto place_file = reinterpret_cast<std::uint64_t>(place.file);
        env.store(freed_file, place_file, Order::release);
        env.store(freed_line, sealed_line(block, place_file, place.line), Order::release);
    }

    CUDA_ZSTD_INLINE std::uint32_t front_bytes() const { return 1u << (origin >> SlotLife::bits); }
    CUDA_ZSTD_INLINE bool is_of(const SlotLife& life) const { return (origin & SlotLife::of_a_run) == life.number; }
    CUDA_ZSTD_INLINE bool is_sealed(const void* block) const { return seal == right_seal(block); }
    /// Of a live block: whether neither this nor the zone behind the block was overwritten.
    CUDA_ZSTD_HD bool is_whole(Env& env, const char* block) {
        return is_sealed(block) && env.load(freed_file, Order::acquire) == 0 &&
               env.load(freed_line, Order::acquire) == 0 && is_filled(block + bytes, rear_bytes, State::zone_byte);
    }
    /// Of a block that was freed.
    CUDA_ZSTD_HD bool is_poisoned(const char* block) const {
        return is_sealed(block) && is_filled(block, bytes, State::poison_byte);
    }

    CUDA_ZSTD_INLINE KnownPlace allocated() const { return {file, function, line}; }
    /// What is known of a block at which a fault was found by the free `found_by`, if it was one.
    CUDA_ZSTD_HD FoundFault known(Env& env, const void* block, const KnownPlace& found_by) {
        FoundFault found;
        found.block = reinterpret_cast<std::uint64_t>(block);
        found.found_by = found_by;
        if (!is_sealed(block)) return found;
        found.bytes = bytes;
        found.allocated = allocated();
        const std::uint64_t sealed = env.load(freed_line, Order::relaxed);
        const std::uint64_t place_file = env.load(freed_file, Order::relaxed);
        const auto place_line = static_cast<std::uint32_t>(sealed);
        if (place_line != 0 && sealed == sealed_line(block, place_file, place_line))
            found.freed = {reinterpret_cast<const char*>(place_file), nullptr, place_line};
        return found;
    }

    static CUDA_ZSTD_HD void fill(char* at, std::size_t count, unsigned char with) {
        for (std::size_t i = 0; i < count; ++i)
            reinterpret_cast<unsigned char*>(at)[i] = with;
    }
    static CUDA_ZSTD_HD bool is_filled(const char* at, std::size_t count, unsigned char with) {
        for (std::size_t i = 0; i < count; ++i)
            if (reinterpret_cast<const unsigned char*>(at)[i] != with) return false;
        return true;
    }

private:
    static constexpr std::uint64_t factor = 0x9e3779b97f4a7c15u;

    CUDA_ZSTD_INLINE std::uint64_t right_seal(const void* block) const {
        std::uint64_t all = State::mark(block, State::guard);
        const std::uint64_t words[] = {bytes, std::uint64_t{line} << 32 | origin, reinterpret_cast<std::uint64_t>(file),
                                       reinterpret_cast<std::uint64_t>(function)};
        for (unsigned at = 0; at < 4; ++at)
            all = (all ^ words[at]) * factor;
        return all;
    }
    static CUDA_ZSTD_INLINE std::uint64_t sealed_line(const void* block, std::uint64_t place_file,
                                                      std::uint32_t place_line) {
        return (State::mark(block, place_file) * factor ^ place_line) << 32 | place_line;
    }
};

} // namespace cuda_zstd
