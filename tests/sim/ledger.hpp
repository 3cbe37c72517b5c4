// SPDX-License-Identifier: MIT
// Which blocks are live, kept beside the heap and believed instead of it.
// Invariant: blocks on the ledger are aligned, inside the heap's pages and do not overlap; `take` refuses what is not.
#pragma once

#include "cuda_zstd/heap/layout.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace cuda_zstd::test {

class Ledger {
public:
    Ledger(const char* pages_base, std::size_t payload_bytes) : base_(pages_base), bytes_(payload_bytes) {}

    /// Empty if the block may be handed out, else what is wrong with it.
    std::string take(const void* block, std::size_t bytes, std::uint32_t alignment) {
        const char* const at = static_cast<const char*>(block);
        if (at < base_ || at + bytes > base_ + bytes_) return "a block lies outside the heap";
        const auto offset = static_cast<std::size_t>(at - base_);
        if (offset % alignment != 0) return "a block is not aligned";
        const auto after = live_.lower_bound(offset);
        if (after != live_.end() && after->first < offset + bytes) return "a block overlaps a live one behind it";
        if (after != live_.begin() && std::prev(after)->first + std::prev(after)->second > offset)
            return "a block overlaps a live one before it";
        live_.emplace(offset, bytes);
        return {};
    }
    void give_back(const void* block) {
        live_.erase(static_cast<std::size_t>(static_cast<const char*>(block) - base_));
    }
    std::size_t live_count() const { return live_.size(); }
    const std::map<std::size_t, std::size_t>& live() const { return live_; }

private:
    const char* base_;
    std::size_t bytes_;
    std::map<std::size_t, std::size_t> live_; ///< offset -> bytes
};

/// The heap at rest, with the blocks of the ledger live: every count must agree with every bit. Empty if so.
std::string audit_at_rest(char* arena, const HeapLayout& layout, const Ledger& ledger);
/// At rest: whether a request for `bytes` could be served from free slots, empty slabs and free pages.
bool could_serve(char* arena, const HeapLayout& layout, std::size_t bytes);

} // namespace cuda_zstd::test
