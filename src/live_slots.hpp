// SPDX-License-Identifier: MIT
// A table of records by the addresses of their blocks.
//
// Invariant: an entry is a record's pointer, of 48 bits, below a tag of the address, so a record that is passed over is
// not looked at; or 0, where no record ever was; or a mark, where one was erased, which keeps the place till an
// insertion uses it again. So a reader that probes beside writers passes over what they change, and finds what is there
// all the time.
#pragma once

#include "cuda_zstd/host/live_table.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace cuda_zstd::detail {

/// Where a block's address leads: multiplied by the golden ratio (Knuth, "The Art of Computer Programming" 3, 6.4),
/// which spreads blocks at equal distances, as most are, more evenly than at random.
struct Hash {
    static constexpr std::size_t parts = 64;
    explicit Hash(const void* ptr) noexcept
        : bits(reinterpret_cast<std::uintptr_t>(ptr) / granule_bytes * 0x9E3779B97F4A7C15u) {}
    std::size_t part() const noexcept { return bits >> 58; }
    /// Odd, so of no mark.
    std::uint64_t tag() const noexcept { return (bits >> 42 & 0xFFFF) | 1; }
    /// Of a power of two of places. Of all bits, those from here on spread best within a part.
    std::size_t place(std::size_t places) const noexcept { return bits >> 20 & (places - 1); }

    std::uint64_t bits;
};

/// Open addressing with linear probing. Writers come one at a time.
class Slots {
public:
    /// A power of two.
    explicit Slots(std::size_t places) : places_(places), entries_(std::make_unique<Entry[]>(places)) {}

    std::size_t places() const noexcept { return places_; }
    /// There has to be a place that is not used.
    void insert(const BlockRecord& record) noexcept {
        const Hash hash(record.ptr());
        std::size_t at = hash.place(places_);
        while (is_record(entries_[at].load(std::memory_order_relaxed)))
            at = after(at);
        entries_[at].store(entry_of(record, hash), std::memory_order_release);
    }
    /// Of one that is here.
    void erase(const BlockRecord& record) noexcept {
        const Hash hash(record.ptr());
        std::size_t at = hash.place(places_);
        while (entries_[at].load(std::memory_order_relaxed) != entry_of(record, hash))
            at = after(at);
        entries_[at].store(erased, std::memory_order_relaxed);
    }
    /// Beside writers.
    BlockRecord* find(const void* ptr) const noexcept {
        const Hash hash(ptr);
        std::size_t at = hash.place(places_);
        for (std::size_t left = places_; left != 0; --left, at = after(at)) {
            const std::uint64_t entry = entries_[at].load(std::memory_order_acquire);
            if (entry >> tag_shift == hash.tag()) [[likely]] {
                BlockRecord* const record = record_in(entry);
                if (record->ptr() == ptr) [[likely]]
                    return record;
            }
            if (entry == 0) return nullptr;
        }
        return nullptr;
    }
    template <class Visit>
    void for_each(const Visit& visit) const {
        for (std::size_t at = 0; at < places_; ++at)
            if (const std::uint64_t entry = entries_[at].load(std::memory_order_relaxed); is_record(entry))
                visit(*record_in(entry));
    }
    void clear() noexcept {
        for (std::size_t at = 0; at < places_; ++at)
            entries_[at].store(0, std::memory_order_relaxed);
    }

private:
    using Entry = std::atomic<std::uint64_t>;
    static constexpr std::uint64_t erased = 2;
    static constexpr unsigned tag_shift = 48;

    static std::uint64_t entry_of(const BlockRecord& record, Hash hash) noexcept {
        return reinterpret_cast<std::uintptr_t>(&record) | hash.tag() << tag_shift;
    }
    static BlockRecord* record_in(std::uint64_t entry) noexcept {
        return reinterpret_cast<BlockRecord*>(entry << 16 >> 16);
    }
    static bool is_record(std::uint64_t entry) noexcept { return entry >> tag_shift != 0; }
    std::size_t after(std::size_t place) const noexcept { return (place + 1) & (places_ - 1); }

    const std::size_t places_;
    const std::unique_ptr<Entry[]> entries_;
};

} // namespace cuda_zstd::detail
