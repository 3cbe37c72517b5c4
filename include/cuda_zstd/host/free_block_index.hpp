// SPDX-License-Identifier: MIT
// The free blocks, in the order that a strategy searches them.
//
// Invariant: `find(bytes)` returns a block of at least `bytes` whenever the index holds one, whatever the strategy.
#pragma once

#include "cuda_zstd/host/block.hpp"
#include "cuda_zstd/host/options.hpp"

#include <cstddef>
#include <memory>
#include <string>

namespace cuda_zstd::detail {

class FreeBlockIndex {
public:
    static std::unique_ptr<FreeBlockIndex> make(Strategy strategy);

    virtual ~FreeBlockIndex() = default;
    FreeBlockIndex(const FreeBlockIndex&) = delete;
    FreeBlockIndex& operator=(const FreeBlockIndex&) = delete;

    virtual void insert(Block& block) noexcept = 0;
    virtual void erase(Block& block) noexcept = 0;
    /// The strategy's choice among the blocks of at least `bytes`; null when there is none. Best fit: the smallest,
    /// of those the lowest address. First fit: the lowest address. Segregated: a block of the smallest size class that
    /// surely fits, else one of the request's own class.
    virtual Block* find(std::size_t bytes) const noexcept = 0;
    /// O(n).
    virtual std::size_t largest_bytes() const noexcept = 0;
    /// Empty when the structure is sound, else what is wrong. O(n).
    virtual std::string check() const = 0;

protected:
    FreeBlockIndex() = default;
};

} // namespace cuda_zstd::detail
