// SPDX-License-Identifier: MIT
// From events to who holds what.
//
// Invariant: a block is live from its allocation's event to its free's, in order of time, whatever the order in which
// the two arrive. An event that was dropped leaves at most its own block wrong, until that is allocated again.
#pragma once

#include "cuda_zstd/device/device_pool_events.hpp"

#include <boost/unordered/unordered_flat_map.hpp>

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace cuda_zstd::detail {

class DeviceEventLedger {
public:
    /// Takes the events of one drain and puts them in order of time. `live(time_ns, bytes, failures)` is called for
    /// each with what lives from then on and how many requests have failed by then.
    template <class Live>
    void add(std::vector<DeviceEvent>& events, const Live& live) {
        put_in_order(events);
        for (const DeviceEvent& event : events) {
            apply(event);
            live(event.time_ns, live_bytes_, failures_);
        }
    }

    std::vector<DeviceUse> use() const;

private:
    struct Block {
        std::uint32_t kernel = 0;
        std::uint8_t size_class = 0;
        std::uint64_t bytes = 0;
        std::uint64_t time_ns = 0;
    };

    void put_in_order(std::vector<DeviceEvent>& events) const;
    void apply(const DeviceEvent& event);
    void allocated(const DeviceEvent& event);
    void freed(const DeviceEvent& event);
    void forget(const Block& block);
    DeviceUse& use_of(std::uint32_t kernel, std::uint8_t size_class);

    std::map<std::pair<std::uint32_t, std::uint8_t>, DeviceUse> uses_;
    boost::unordered_flat_map<std::uint64_t, Block> live_;
    /// Times of frees whose allocations have not been seen.
    boost::unordered_flat_map<std::uint64_t, std::uint64_t> early_frees_;
    /// Frees that must still come: their blocks have been allocated again.
    boost::unordered_flat_map<std::uint64_t, std::uint32_t> owed_frees_;
    std::uint64_t live_bytes_ = 0;
    std::uint64_t failures_ = 0;
};

} // namespace cuda_zstd::detail
