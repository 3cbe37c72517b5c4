// SPDX-License-Identifier: MIT
// The memory orders of the heap's atomics, under a name of our own.
// Invariant: one enumeration that every environment translates. Relacy renames `memory_order_*` by macros,
// libcu++ and the standard library have one type each; the algorithms name none of them.
#pragma once

namespace cuda_zstd {

/// The order of one atomic access. There is no default anywhere, and no sequential consistency: an algorithm
/// that needs it says so by its structure.
enum class Order : unsigned char { relaxed, acquire, release, acq_rel };

} // namespace cuda_zstd
