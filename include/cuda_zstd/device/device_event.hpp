// SPDX-License-Identifier: MIT
// What kernels write down of a call into a device pool, where they are asked to (event_ring.hpp).
// Invariant: plain data.
#pragma once

#include <cstdint>

namespace cuda_zstd {

enum class DeviceEventKind : std::uint8_t {
    allocation = 1,
    /// An allocation that came to nothing: its block is null.
    failure,
    free,
    /// A free that was refused: of no live block.
    bad_free,
};

/// The class of blocks that are runs of whole pages.
inline constexpr std::uint8_t page_run_class = 0xff;

struct DeviceEvent {
    /// The device's timer (globaltimer; the steady clock on the host backend). Of a free: before it.
    std::uint64_t time_ns = 0;
    /// The block's address.
    std::uint64_t block = 0;
    /// Of an allocation what was asked for, of a free what the block holds.
    std::uint64_t bytes = 0;
    /// What the kernel was told that it is.
    std::uint32_t kernel = 0;
    /// The processor (SM).
    std::uint16_t processor = 0;
    /// Size class of the block, or page_run_class.
    std::uint8_t size_class = 0;
    DeviceEventKind kind = DeviceEventKind::allocation;
};
static_assert(sizeof(DeviceEvent) == 32);

} // namespace cuda_zstd
