// SPDX-License-Identifier: MIT
// Stations: what one processor has for itself, so that processors do not meet at one address.
//
// Invariant: a station of a size class is its cursor and its list of slabs, two cells of 64 bits in one sector. Behind
// the stations of the size classes come those of the page map, each with the processor's rover.
//
// Two kinds of counts let a request prove that there is nothing. A move is a piece of work that takes slabs or pages
// out of the places where others look for them; it begins before they disappear and ends when they are back. So whoever
// finds the same sum of all counts before and after a look at every place, with no move under way, has seen every free
// slot and page that there was. And the count of a class's listed slabs is below their number only while a move is
// under way, so at 0 with none, no list and no cursor has one.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/memory_order.hpp"
#include "cuda_zstd/core/size_class.hpp"
#include "cuda_zstd/env/environment.hpp"
#include "cuda_zstd/heap/layout.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// What a cursor holds: the slab that a processor serves a size class from, the one prepared to follow it (alone: one
/// that large groups have set aside, own_slabs.hpp), and whether somebody is about to change them. Slabs are stored
/// plus one, so that 0 is an empty cursor.
struct Cursor {
    std::uint64_t raw = 0;

    static constexpr unsigned slab_bits = 25;
    static constexpr std::uint64_t slab_mask = (std::uint64_t{1} << slab_bits) - 1;
    static constexpr std::uint64_t busy_bit = std::uint64_t{1} << 63;
    static_assert(max_pages <= slab_mask);

    static CUDA_ZSTD_INLINE Cursor of(std::uint32_t current_plus_1, std::uint32_t next_plus_1) {
        return {current_plus_1 | std::uint64_t{next_plus_1} << slab_bits};
    }
    CUDA_ZSTD_INLINE std::uint32_t current_plus_1() const { return static_cast<std::uint32_t>(raw & slab_mask); }
    CUDA_ZSTD_INLINE std::uint32_t next_plus_1() const {
        return static_cast<std::uint32_t>(raw >> slab_bits & slab_mask);
    }
    CUDA_ZSTD_INLINE bool busy() const { return (raw & busy_bit) != 0; }
    CUDA_ZSTD_INLINE Cursor made_busy() const { return {raw | busy_bit}; }
    /// Whether there is neither a next slab nor anybody who brings one.
    CUDA_ZSTD_INLINE bool wants_next() const { return raw >> slab_bits == 0; }
};

/// The stations of a heap, which lie in its arena.
struct Stations {
    char* base = nullptr;
    std::uint32_t count = 0; ///< of each class
    /// Stations for each processor, in units of 2^-16.
    std::uint32_t scale = 0;
    char* shared = nullptr; ///< the cells that processors share

    enum Part : unsigned { cursor, list, rover = cursor };

    template <class Env>
    CUDA_ZSTD_INLINE typename Env::template atom<std::uint64_t>* cell(unsigned size_class, unsigned station,
                                                                      Part part) const {
        using Cell = typename Env::template atom<std::uint64_t>;
        // A model checker's cells are larger than half a sector.
        constexpr std::size_t stride = sizeof(Cell) > station_bytes / 2 ? sizeof(Cell) : station_bytes / 2;
        const std::size_t index = (std::size_t{size_class} * count + station) * 2 + part;
        return reinterpret_cast<Cell*>(base + index * stride);
    }
    /// The caller's: the processor's number, scaled. A number beyond those that the heap was laid out for is allowed.
    template <class Env>
    CUDA_ZSTD_INLINE unsigned here(Env& env) const {
        const unsigned station = env.processor() * scale >> 16;
        return station < count ? station : count - 1;
    }

    template <class Env>
    CUDA_ZSTD_INLINE void begin_move(Env& env) const {
        env.fetch_add(move_counter(env), std::uint64_t{1}, Order::relaxed);
    }
    /// Counts one more completed move in the upper half and one less under way in the lower. Only the sums over all
    /// counters are counts, since a thread may end on another processor than it began on.
    template <class Env>
    CUDA_ZSTD_INLINE void end_move(Env& env) const {
        env.fetch_add(move_counter(env), (std::uint64_t{1} << 32) - 1, Order::release);
    }
    /// Ends a move that came too late and changed nothing, not even for a moment: it was none, and there is nothing to
    /// release.
    template <class Env>
    CUDA_ZSTD_INLINE void cancel_move(Env& env) const {
        env.fetch_sub(move_counter(env), std::uint64_t{1}, Order::relaxed);
    }
    /// Counts a move that took nothing out of sight: a slab in reach that had no free slot got one. So if two looks at
    /// all_moves() are equal, what was found without slots stayed so until the second.
    template <class Env>
    CUDA_ZSTD_INLINE void note_move(Env& env) const {
        env.fetch_add(move_counter(env), std::uint64_t{1} << 32, Order::release);
    }
    /// The sum of all counts: moves completed in the upper half, under way in the lower. Cost: a load for each counter.
    template <class Env>
    CUDA_ZSTD_INLINE std::uint64_t all_moves(Env& env) const {
        return sum_of_moves<Env>(env);
    }
    static CUDA_ZSTD_INLINE bool any_under_way(std::uint64_t all_moves) {
        return static_cast<std::uint32_t>(all_moves) != 0;
    }

    /// At least the number of the class's slabs that are listed, but for those that a move is about to put in reach.
    template <class Env>
    CUDA_ZSTD_INLINE typename Env::template atom<std::uint32_t>& listed_count(unsigned size_class) const {
        return shared_cell<Env, std::uint32_t>(move_counters + size_class);
    }

private:
    template <class Env>
    CUDA_ZSTD_RARE std::uint64_t sum_of_moves(PassedEnv<Env> env) const {
        std::uint64_t sum = 0;
        for (unsigned counter = 0; counter < move_counters; ++counter)
            sum += env.load(shared_cell<Env, std::uint64_t>(counter), Order::acquire);
        return sum;
    }
    template <class Env, class T>
    CUDA_ZSTD_INLINE typename Env::template atom<T>& shared_cell(unsigned index) const {
        return *reinterpret_cast<typename Env::template atom<T>*>(shared + std::size_t{index} * shared_cell_bytes);
    }
    template <class Env>
    CUDA_ZSTD_INLINE typename Env::template atom<std::uint64_t>& move_counter(Env& env) const {
        return shared_cell<Env, std::uint64_t>(here(env) % move_counters);
    }
};

} // namespace cuda_zstd
