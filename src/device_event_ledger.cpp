// SPDX-License-Identifier: MIT
#include "device_event_ledger.hpp"

#include <algorithm>

namespace cuda_zstd::detail {

namespace {
bool is_allocation(const DeviceEvent& event) { return event.kind == DeviceEventKind::allocation; }
} // namespace

/// The timer may stand still between calls. Events of one block at one time take turns: a free first where the block
/// lives by then, else an allocation.
void DeviceEventLedger::put_in_order(std::vector<DeviceEvent>& events) const {
    std::sort(events.begin(), events.end(), [](const DeviceEvent& a, const DeviceEvent& b) {
        if (a.time_ns != b.time_ns) return a.time_ns < b.time_ns;
        if (a.block != b.block) return a.block < b.block;
        return a.kind < b.kind;
    });
    // Whether a block lived after the last event that is in order already; before that, live_ knows.
    boost::unordered_flat_map<std::uint64_t, bool> lives;
    for (auto first = events.begin(); first != events.end();) {
        auto last = first + 1;
        while (last != events.end() && last->time_ns == first->time_ns && last->block == first->block)
            ++last;
        const auto known = lives.find(first->block);
        bool alive = known != lives.end() ? known->second : live_.contains(first->block);
        // Sorted by kind: allocations, failures (of no block), frees, bad frees.
        std::vector<DeviceEvent> run(first, last);
        const auto middle = std::find_if_not(run.begin(), run.end(), is_allocation);
        auto allocation = run.begin();
        auto other = middle;
        for (auto to = first; to != last; ++to) {
            const bool takes_other = allocation == middle || (other != run.end() && alive);
            *to = takes_other ? *other++ : *allocation++;
            if (is_allocation(*to))
                alive = true;
            else if (to->kind == DeviceEventKind::free)
                alive = false;
        }
        lives[first->block] = alive;
        first = last;
    }
}

DeviceUse& DeviceEventLedger::use_of(std::uint32_t kernel, std::uint8_t size_class) {
    DeviceUse& use = uses_[{kernel, size_class}];
    use.kernel = kernel;
    use.size_class = size_class;
    return use;
}

void DeviceEventLedger::apply(const DeviceEvent& event) {
    DeviceUse& use = use_of(event.kernel, event.size_class);
    switch (event.kind) {
    case DeviceEventKind::allocation:
        ++use.allocations;
        use.requested_bytes += event.bytes;
        allocated(event);
        break;
    case DeviceEventKind::failure:
        ++use.failures;
        ++failures_;
        break;
    case DeviceEventKind::free:
        ++use.frees;
        freed(event);
        break;
    case DeviceEventKind::bad_free:
        ++use.bad_frees;
        break;
    }
}

void DeviceEventLedger::forget(const Block& block) {
    DeviceUse& use = use_of(block.kernel, block.size_class);
    --use.live_blocks;
    use.live_bytes -= block.bytes;
    live_bytes_ -= block.bytes;
}

void DeviceEventLedger::allocated(const DeviceEvent& event) {
    if (const auto early = early_frees_.find(event.block); early != early_frees_.end()) {
        const bool is_its_free = early->second >= event.time_ns;
        early_frees_.erase(early);
        if (is_its_free) return;
    }
    const Block block{event.kernel, event.size_class, event.bytes, event.time_ns};
    const auto [place, is_new] = live_.try_emplace(event.block, block);
    if (!is_new) {
        // It has been freed meanwhile, and that event is late or was dropped.
        forget(place->second);
        ++owed_frees_[event.block];
        place->second = block;
    }
    DeviceUse& use = use_of(event.kernel, event.size_class);
    ++use.live_blocks;
    use.live_bytes += event.bytes;
    live_bytes_ += event.bytes;
}

void DeviceEventLedger::freed(const DeviceEvent& event) {
    const auto live = live_.find(event.block);
    if (live == live_.end()) {
        early_frees_[event.block] = event.time_ns;
        return;
    }
    if (const auto owed = owed_frees_.find(event.block);
        owed != owed_frees_.end() && event.time_ns < live->second.time_ns) {
        if (--owed->second == 0) owed_frees_.erase(owed);
        return;
    }
    forget(live->second);
    live_.erase(live);
}

std::vector<DeviceUse> DeviceEventLedger::use() const {
    std::vector<DeviceUse> all;
    for (const auto& [key, use] : uses_)
        all.push_back(use);
    return all;
}

} // namespace cuda_zstd::detail
