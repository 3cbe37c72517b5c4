// SPDX-License-Identifier: MIT
// The streams that a soak launches on, one after the other, and what is known of the launches on them.
//
// Invariant: each stream has at most one launch of pairs that is not done; its counts are read once it is.
#pragma once

#include "cuda_zstd/host/backend.hpp"
#include "tests/soak/filling.hpp"

#include <cstdint>
#include <new>
#include <vector>

namespace cuda_zstd::soak {

/// A stream, the end of its last launch, the counts as they were then, and how many pairs it was to do.
struct Lane {
    cudaStream_t stream;
    BackendEvent launched;
    Progress* progress;
    std::uint64_t about_pairs = 0;
};

class Lanes {
public:
    Lanes(Backend& backend, unsigned count) : backend_(backend) {
        for (unsigned lane = 0; lane < count; ++lane)
            lanes_.push_back({backend.create_stream(), backend.create_event(),
                              new (backend.allocate_pinned(sizeof(Progress))) Progress{}});
    }
    ~Lanes() {
        for (const Lane& lane : lanes_) {
            backend_.destroy_stream(lane.stream);
            backend_.destroy_event(lane.launched);
            backend_.free_pinned(lane.progress);
        }
    }
    Lanes(const Lanes&) = delete;
    Lanes& operator=(const Lanes&) = delete;

    std::size_t count() const { return lanes_.size(); }
    Lane& operator[](std::size_t index) { return lanes_[index]; }
    /// The latest counts of launches that are done.
    Progress progress() const {
        Progress latest;
        for (const Lane& lane : lanes_)
            if (backend_.is_complete(lane.launched) && lane.progress->pairs >= latest.pairs) latest = *lane.progress;
        return latest;
    }
    /// About how many pairs the launches do that are not done yet.
    std::uint64_t pairs_under_way() const {
        std::uint64_t pairs = 0;
        for (const Lane& lane : lanes_)
            if (!backend_.is_complete(lane.launched)) pairs += lane.about_pairs;
        return pairs;
    }

private:
    Backend& backend_;
    std::vector<Lane> lanes_;
};

} // namespace cuda_zstd::soak
