// SPDX-License-Identifier: MIT
// The outcome of an allocation or of a free inside a kernel.
// Invariant: plain values, no text and no exception, so that kernels can store and count them.
#pragma once

#include <cstdint>

namespace cuda_zstd {

/// What became of a request to the device heap.
enum class Status : std::uint32_t {
    ok = 0,
    /// No slot and no run of pages for this size exists (null was returned, the failure was counted).
    full,
    /// A bounded wait ran out before the answer was known. Trying again may succeed.
    contended,
    /// The request cannot be served by this heap at all: zero bytes, larger than the heap, alignment no power
    /// of two or above 64 KiB.
    invalid,
    /// The pointer freed is not in this heap.
    foreign,
    /// The pointer freed is not the start of a block.
    interior,
    /// The block freed is already free.
    double_free,
    /// Hardened build: bytes before or behind the block freed were overwritten; it stays as it is.
    corrupted,
    /// Hardened build: the block freed was never handed out.
    never_allocated,
};

} // namespace cuda_zstd
