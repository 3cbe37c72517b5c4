// SPDX-License-Identifier: MIT
// The heap behind a device pool: Heap, or in a hardened build HardenedHeap.
// Invariant: both have the same members for those who allocate and free.
#pragma once

#include "cuda_zstd/core/hardening.hpp"
#include "cuda_zstd/device/hardened_heap.hpp"
#include "cuda_zstd/heap/heap.hpp"

#include <type_traits>

namespace cuda_zstd {

template <class Env>
using PoolHeap = std::conditional_t<Hardening::any, HardenedHeap<Env>, Heap<Env>>;

} // namespace cuda_zstd
