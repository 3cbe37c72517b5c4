// SPDX-License-Identifier: MIT
// Whose a block is, in one word that all threads see.
//
// Invariant: a word whose state is `live` or `device_arena` is one allocation's only, whose number is in it. So who has
// read a word, then found that the address is the record's, and then exchanges the word, has that block.
#pragma once

#include "cuda_zstd/host/statistics.hpp"

#include <atomic>
#include <cstdint>

namespace cuda_zstd::detail {

/// Whose a block is, and what does not change as long as it is somebody's. In one word, which is written as a whole: a
/// part that is written is late for who reads the whole.
struct RecordWord {
    enum class State : std::uint64_t {
        /// The pools'.
        absent,
        /// The caller's.
        live,
        /// The caller's, as the arena of a device pool.
        device_arena,
        /// Free, in a thread's magazine.
        cached,
        /// In the hands of a thread that moves it.
        claimed,
    };
    static constexpr std::uint64_t state_mask = 7;
    /// Whether it is a slot of the small pool.
    static constexpr std::uint64_t is_slot_mark = 1 << 3;
    /// Whether the block's stream had it before: then it may stay with the stream when it is freed there.
    static constexpr std::uint64_t returning_mark = 1 << 4;
    /// Whether the block came from a magazine: earlier work of its stream may use it, and no ticket says so.
    static constexpr std::uint64_t unticketed_mark = 1 << 5;
    /// The bits from here on: the pool's kind, a slot's place in its slab, the number of the allocation.
    static constexpr unsigned kind_shift = 6;
    static constexpr unsigned place_shift = 8;
    static constexpr unsigned number_shift = 16;
    /// What a record keeps as long as it is one.
    static constexpr std::uint64_t fixed_mask = is_slot_mark | std::uint64_t{0xFF} << place_shift;

    State state() const noexcept { return static_cast<State>(bits & state_mask); }
    bool is_slot() const noexcept { return (bits & is_slot_mark) != 0; }
    bool is_returning() const noexcept { return (bits & returning_mark) != 0; }
    bool is_unticketed() const noexcept { return (bits & unticketed_mark) != 0; }
    PoolKind kind() const noexcept { return static_cast<PoolKind>(bits >> kind_shift & 3); }
    std::uint64_t place() const noexcept { return bits >> place_shift & 0xFF; }
    /// Counts the allocations of the pool; each thread draws numbers in lots.
    std::uint64_t sequence() const noexcept { return bits >> number_shift; }
    RecordWord with(State state) const noexcept { return {(bits & ~state_mask) | static_cast<std::uint64_t>(state)}; }
    /// Of nobody, or of somebody who has just come by it.
    RecordWord plain(State state) const noexcept { return {(bits & fixed_mask) | static_cast<std::uint64_t>(state)}; }
    /// Of a new allocation.
    RecordWord renewed(State state, std::uint64_t number, PoolKind kind, std::uint64_t marks) const noexcept {
        return {plain(state).bits | marks | static_cast<std::uint64_t>(kind) << kind_shift | number << number_shift};
    }

    std::uint64_t bits = 0;
};

/// A word that all threads see. `Atomic` holds 64 bits; the model checker brings its own.
template <class Atomic>
struct SharedWord {
    using State = RecordWord::State;
    Atomic bits{0};

    /// As it is now: for its owner.
    RecordWord word() const noexcept { return {bits.load(std::memory_order_relaxed)}; }
    State state() const noexcept { return RecordWord{bits.load(std::memory_order_acquire)}.state(); }
    /// Of the owner: what others then see.
    void publish(RecordWord word) noexcept { bits.store(word.bits, std::memory_order_release); }
    /// What is `from` becomes this thread's: its word then; all 0 when it is not (or no longer), or `is_meant(word)`
    /// denies that it is the block in question.
    template <class IsMeant>
    RecordWord claim_if(State from, const IsMeant& is_meant) noexcept {
        const RecordWord seen{bits.load(std::memory_order_acquire)};
        if (seen.state() != from || !is_meant(seen)) return {};
        const RecordWord mine = seen.with(State::claimed);
        std::uint64_t expected = seen.bits;
        return bits.compare_exchange_strong(expected, mine.bits, std::memory_order_acquire, std::memory_order_relaxed)
                   ? mine
                   : RecordWord{};
    }
};

} // namespace cuda_zstd::detail
