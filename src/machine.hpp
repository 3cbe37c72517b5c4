// SPDX-License-Identifier: MIT
// What the machine has.
// Invariant: figures are of this process: a container's limit counts where it is lower than the machine's.
#pragma once

#include <cstddef>

namespace cuda_zstd::detail {

/// Bytes of memory that could be used now without swapping.
std::size_t available_memory_bytes();
/// Bytes of memory that this process could use at most.
std::size_t total_memory_bytes();

} // namespace cuda_zstd::detail
