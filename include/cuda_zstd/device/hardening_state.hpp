// SPDX-License-Identifier: MIT
// What a hardened heap keeps in its arena: the quarantine, and the faults that were found.
//
// Invariant: a block in the ring is nobody's: whoever exchanges it for another owns it and gives it to the heap. So a
// block that is freed comes back to the heap when as many others as the ring has places were freed after it.
#pragma once

#include "cuda_zstd/core/call_place.hpp"
#include "cuda_zstd/core/hardening.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/device/fault_report.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cstdint>

namespace cuda_zstd {

/// A fault as it is found: the texts are those of the module that called.
struct FoundFault {
    std::uint64_t block = 0;
    std::uint64_t bytes = 0;
    KnownPlace allocated;
    KnownPlace freed;    ///< before the fault was found
    KnownPlace found_by; ///< the free that found it, if it was one
};

template <class Env>
struct HardeningState {
    template <class T>
    using atom = typename Env::template atom<T>;

    atom<std::uint32_t>* counts = nullptr; ///< by Fault; [0] is the ring's next place
    atom<std::uint64_t>* first = nullptr;  ///< address << 8 | Fault, of the first
    atom<std::uint32_t>* logged = nullptr; ///< entries of the log that were given out, or more
    struct LogEntry {
        FoundFault found;
        atom<std::uint64_t> fault; ///< 0 while the entry is not written; written last
    };
    LogEntry* log = nullptr;
    atom<std::uint64_t>* ring = nullptr;
    static_assert(sizeof(LogEntry) <= 96 && FaultReport::most_records * 96 == fault_log_bytes);

    static constexpr std::uint64_t live = 0x6c6976656c697665u;
    static constexpr std::uint64_t held = 0x68656c6468656c64u;
    static constexpr std::uint64_t freed = 0x6672656566726565u;
    static constexpr std::uint64_t gone = 0x676f6e65676f6e65u; ///< freed, and its slot was handed out again
    static constexpr std::uint64_t guard = 0x6775617264677561u;
    static constexpr unsigned char zone_byte = 0xfd;
    static constexpr unsigned char poison_byte = 0xdb;

    static CUDA_ZSTD_HD HardeningState over(void* arena, const HeapLayout& layout) {
        char* const base = static_cast<char*>(arena) + layout.hardening_offset;
        return {reinterpret_cast<atom<std::uint32_t>*>(base), reinterpret_cast<atom<std::uint64_t>*>(base + 32),
                reinterpret_cast<atom<std::uint32_t>*>(base + 40), reinterpret_cast<LogEntry*>(base + 128),
                reinterpret_cast<atom<std::uint64_t>*>(base + 128 + fault_log_bytes)};
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

    /// What is at a place, left there.
    CUDA_ZSTD_HD const char* at(Env& env, unsigned place) const {
        return reinterpret_cast<const char*>(env.load(ring[place], Order::acquire));
    }

    CUDA_ZSTD_HD void note(Env& env, Fault fault, const FoundFault& found) const {
        std::uint64_t none = 0;
        env.compare_exchange(*first, none, found.block << 8 | static_cast<std::uint64_t>(fault), Order::relaxed);
        env.fetch_add(counts[static_cast<unsigned>(fault)], 1u, Order::relaxed);
        if (env.load(*logged, Order::relaxed) >= FaultReport::most_records) return;
        const std::uint32_t place = env.fetch_add(*logged, 1u, Order::relaxed);
        if (place >= FaultReport::most_records) return;
        log[place].found = found;
        env.store(log[place].fault, static_cast<std::uint64_t>(fault), Order::release);
    }
    /// Whether the log has a fault of this kind at the block.
    CUDA_ZSTD_HD bool has_noted(Env& env, Fault fault, std::uint64_t block) const {
        for (std::uint32_t at = 0; at < FaultReport::most_records; ++at)
            if (env.load(log[at].fault, Order::acquire) == static_cast<std::uint64_t>(fault) &&
                log[at].found.block == block)
                return true;
        return false;
    }

    /// Adds what was found to a report. By one lane.
    CUDA_ZSTD_HD void report(Env& env, FaultReport& to) const {
        const auto count = [&](Fault fault) { return env.load(counts[static_cast<unsigned>(fault)], Order::relaxed); };
        const std::uint64_t of_first = env.load(*first, Order::relaxed);
        to.red_zones = count(Fault::red_zone);
        to.writes_after_free = count(Fault::write_after_free);
        to.never_allocated = count(Fault::never_allocated);
        to.double_frees = count(Fault::double_free);
        to.first = static_cast<Fault>(of_first & 0xffu);
        to.first_address = of_first >> 8;
        to.record_count = 0;
        for (std::uint32_t at = 0; at < FaultReport::most_records; ++at) {
            const std::uint64_t fault = env.load(log[at].fault, Order::acquire);
            if (fault == 0) continue;
            FaultRecord& record = to.records[to.record_count++];
            record.fault = static_cast<Fault>(fault);
            record.block = log[at].found.block;
            record.bytes = log[at].found.bytes;
            copy_place(record.allocated, log[at].found.allocated);
            copy_place(record.freed, log[at].found.freed);
            copy_place(record.found_by, log[at].found.found_by);
        }
    }
    CUDA_ZSTD_HD FaultReport faults(Env& env) const {
        FaultReport all;
        report(env, all);
        return all;
    }

    static CUDA_ZSTD_HD void copy_place(PlaceText& to, const KnownPlace& from) {
        to.line = from.line;
        copy_end(to.function, sizeof to.function, from.function);
        copy_end(to.file, sizeof to.file, from.file);
    }

private:
    /// The last characters, if not all have room.
    static CUDA_ZSTD_HD void copy_end(char* to, std::uint32_t room, const char* from) {
        std::uint32_t length = 0;
        while (from != nullptr && from[length] != 0)
            ++length;
        const std::uint32_t skipped = length < room ? 0 : length - room + 1;
        for (std::uint32_t at = skipped; at < length; ++at)
            to[at - skipped] = from[at];
        to[length - skipped] = 0;
    }
};

} // namespace cuda_zstd
