// SPDX-License-Identifier: MIT
// Which checks a hardened build makes.
// Invariant: constants of the build, the same in the library and in every kernel that uses it (the build's option
// CUDA_ZSTD_POOL_HARDENING sees to that). With all of them off, nothing of them is compiled.
#pragma once

/// Freed blocks wait in a ring of CUDA_ZSTD_POOL_QUARANTINE_BLOCKS before they can be handed out again.
#define CUDA_ZSTD_POOL_HARDEN_QUARANTINE 1
/// Bytes before and behind each block are filled, and checked when it is freed.
#define CUDA_ZSTD_POOL_HARDEN_RED_ZONES 2
/// Freed blocks are filled, and checked before they leave the quarantine and when they are handed out again.
#define CUDA_ZSTD_POOL_HARDEN_POISON 4
#define CUDA_ZSTD_POOL_HARDEN_ALL 7

#if !defined(CUDA_ZSTD_POOL_HARDENING)
#define CUDA_ZSTD_POOL_HARDENING 0
#endif
#if !defined(CUDA_ZSTD_POOL_QUARANTINE_BLOCKS)
#define CUDA_ZSTD_POOL_QUARANTINE_BLOCKS 256
#endif

namespace cuda_zstd {

struct Hardening {
    static constexpr unsigned bits = CUDA_ZSTD_POOL_HARDENING;
    static constexpr bool any = bits != 0;
    static constexpr bool quarantine = (bits & CUDA_ZSTD_POOL_HARDEN_QUARANTINE) != 0;
    static constexpr bool red_zones = (bits & CUDA_ZSTD_POOL_HARDEN_RED_ZONES) != 0;
    static constexpr bool poison = (bits & CUDA_ZSTD_POOL_HARDEN_POISON) != 0;
    static constexpr unsigned quarantine_blocks = quarantine ? CUDA_ZSTD_POOL_QUARANTINE_BLOCKS : 0;
};
static_assert(Hardening::bits <= CUDA_ZSTD_POOL_HARDEN_ALL, "CUDA_ZSTD_POOL_HARDENING has bits that mean nothing");

} // namespace cuda_zstd
