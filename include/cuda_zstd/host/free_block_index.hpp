// SPDX-License-Identifier: MIT
// The free blocks, in the order that a strategy searches them.
//
// Invariant: `search` returns a block that holds the request whenever the index has one, whatever the strategy. `find`
// gives up earlier, so that its cost does not grow with the blocks that do not fit.
#pragma once

#include "cuda_zstd/host/block.hpp"
#include "cuda_zstd/host/options.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace cuda_zstd::detail {

/// The alignment, here and below, is a power of two: a division is the longest step of a search.
inline std::byte* aligned_up(std::byte* ptr, std::size_t alignment) noexcept {
    return reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(ptr) + alignment - 1) & ~(alignment - 1));
}
/// Whether the block holds `bytes` from an address of the alignment on.
inline bool fits(const Block& block, std::size_t bytes, std::size_t alignment) noexcept {
    return block.bytes >= bytes && aligned_up(block.ptr, alignment) + bytes <= block.end();
}

class FreeBlockIndex {
public:
    /// Blocks that are large enough but lie wrong for the alignment: find() looks at so many, then takes one that is
    /// surely large enough.
    static constexpr unsigned candidates = 32;
    /// Segregated: blocks of the request's own size class that find() looks at.
    static constexpr unsigned own_class_candidates = 2;

    static std::unique_ptr<FreeBlockIndex> make(Strategy strategy);

    virtual ~FreeBlockIndex() = default;
    FreeBlockIndex(const FreeBlockIndex&) = delete;
    FreeBlockIndex& operator=(const FreeBlockIndex&) = delete;

    /// So many inserts (at most two) of blocks of up to `largest_bytes` will find the memory that they need. Throws
    /// `std::bad_alloc`.
    virtual void prepare(std::size_t largest_bytes, unsigned inserts) {
        (void)largest_bytes;
        (void)inserts;
    }
    /// First fit O(log n), best fit O(log size), segregated O(1).
    virtual void insert(Block& block) noexcept = 0;
    virtual void erase(Block& block) noexcept = 0;
    /// The strategy's choice among the blocks that fit; null when it sees none. Best fit: the smallest, of those the
    /// one that was inserted last. First fit: the lowest address. Segregated: one of the newest two of the request's
    /// own class, else the newest block of the smallest class that surely fits. Best fit and first fit see every block
    /// where the alignment is the granule. Best fit O(log size), first fit O(log n), segregated O(1).
    virtual Block* find(std::size_t bytes, std::size_t alignment) const noexcept = 0;
    /// As find(), but looks at every block before it returns null. O(n).
    virtual Block* search(std::size_t bytes, std::size_t alignment) const noexcept = 0;
    /// Every block of at least `bytes`. O(blocks visited) and what find() takes; segregated also looks at smaller
    /// blocks of the class. `visit` must leave the index as it is.
    virtual void for_each_from(std::size_t bytes, const std::function<void(Block&)>& visit) const = 0;
    /// O(1), best fit O(log size), segregated O(blocks of the highest class).
    virtual std::size_t largest_bytes() const noexcept = 0;
    /// Empty when the structure is sound, else what is wrong. O(n).
    virtual std::string check() const = 0;

protected:
    FreeBlockIndex() = default;
};

std::unique_ptr<FreeBlockIndex> make_best_fit_index();
std::unique_ptr<FreeBlockIndex> make_first_fit_index();
std::unique_ptr<FreeBlockIndex> make_segregated_index();

} // namespace cuda_zstd::detail
