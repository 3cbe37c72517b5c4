// SPDX-License-Identifier: MIT
// The blocks that live while a trace's events are followed.
// Invariant: a block is known by its pool and address from its allocation to its free or its pool's reset; calls that
// did not succeed change nothing.
#pragma once

#include "trace_file.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <unordered_map>

namespace pool_trace {

/// `Value` is what is kept of a block.
template <class Value>
class LiveBlocks {
public:
    /// `born()` makes the value of a block that is allocated, `gone(value)` is told of each that ends. False for a free
    /// of a block that was not seen allocated.
    template <class Born, class Gone>
    bool follow(const Event& event, const Born& born, const Gone& gone) {
        if (!succeeded(event.outcome)) return true;
        auto& blocks = pools_[event.pool];
        if (is_allocation(event.call)) {
            blocks[event.pointer] = born();
        } else if (is_free(event.call)) {
            const auto found = blocks.find(event.pointer);
            if (found == blocks.end()) return false;
            gone(found->second);
            blocks.erase(found);
        } else if (event.call == Call::reset) {
            for (const auto& [pointer, value] : blocks)
                gone(value);
            blocks.clear();
        }
        return true;
    }
    std::size_t count(std::uint32_t pool) const {
        const auto found = pools_.find(pool);
        return found == pools_.end() ? 0 : found->second.size();
    }

private:
    std::map<std::uint32_t, std::unordered_map<std::uint64_t, Value>> pools_;
};

} // namespace pool_trace
