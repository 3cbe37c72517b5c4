// SPDX-License-Identifier: MIT
// What a hardened heap says of users' blocks.
// Invariant: plain data that any processor may read; texts are cut to what there is room for, and end with a zero.
#pragma once

#include <cstdint>

namespace cuda_zstd {

/// What only a hardened heap finds.
enum class Fault : std::uint32_t { none, red_zone, write_after_free, never_allocated, double_free };

/// A place in the source; the file's end where its name is long. Line 0: not known.
struct PlaceText {
    char function[64] = {};
    char file[112] = {};
    std::uint32_t line = 0;
};

/// A block, and what was found at it.
struct FaultRecord {
    Fault fault = Fault::none;
    std::uint64_t block = 0;
    std::uint64_t bytes = 0; ///< as requested; 0 where its header was overwritten
    PlaceText allocated;
    PlaceText freed;    ///< where the block had been freed, if it was
    PlaceText found_by; ///< the free that found the fault, if it was one
};

struct LiveRecord {
    std::uint64_t block = 0;
    std::uint64_t bytes = 0;
    PlaceText allocated;
};

/// The faults found so far, and in an audit the blocks that live.
struct FaultReport {
    static constexpr std::uint32_t most_records = 8;

    std::uint32_t red_zones = 0;         ///< bytes before or behind a block were overwritten
    std::uint32_t writes_after_free = 0; ///< bytes of a freed block were overwritten
    std::uint32_t never_allocated = 0;   ///< blocks freed that were never handed out
    std::uint32_t double_frees = 0;      ///< of blocks that nobody has been given since
    Fault first = Fault::none;
    std::uint64_t first_address = 0; ///< the block at which the first was found
    std::uint32_t record_count = 0;
    std::uint32_t live_record_count = 0;
    std::uint64_t live_blocks = 0; ///< counted by an audit alone
    std::uint64_t live_bytes = 0;  ///< as requested
    FaultRecord records[most_records];
    LiveRecord live[most_records]; ///< some of them
};

} // namespace cuda_zstd
