// SPDX-License-Identifier: MIT
// Which launch of a soak is what.
//
// Invariant: a plan follows from the seed and the number of the launch, and from nothing that was measured; only its
// length is cut where fewer pairs are left, and a longer launch of that number begins with the same draws. Of each lap
// of 32 launches the first few are the wide mixture, the others are brisk.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "tests/soak/brisk_pairs.hpp"
#include "tests/soak/support.hpp"

#include <algorithm>

namespace cuda_zstd::soak {

enum class Mixture : unsigned char { wide, brisk };
inline constexpr unsigned launches_of_lap = 32;

struct LaunchPlan {
    Mixture mixture;
    unsigned threads;      ///< a multiple of 32
    unsigned width;        ///< threads of a block
    std::uint32_t steps;   ///< of a thread
    Sizes sizes;           ///< of the wide mixture
    std::uint32_t a_class; ///< for Sizes::one_class
    LogSizes log_sizes;    ///< of brisk pairs

    static LaunchPlan of(const Settings& settings) {
        const std::uint64_t launch = settings.launches;
        Random random(mix(settings.seed) ^ mix(launch << 1));
        LaunchPlan plan{};
        if (launch % launches_of_lap < settings.wide_of_lap) {
            // From one warp to the largest launch, small ones as often as large ones.
            const unsigned log2 = 5 + random.below(settings.log2_threads - 4);
            plan.mixture = Mixture::wide;
            plan.threads = round_up<unsigned>((1u << log2) - random.below(1u << (log2 - 1)), 32u);
            plan.sizes = static_cast<Sizes>(random.below(static_cast<std::uint32_t>(Sizes::count)));
            plan.steps = 16 + random.below(112);
            plan.a_class = random.below(size_class_count);
            plan.width = 256;
            if (launch % launches_of_lap == 0) {
                // The heap is almost empty: large blocks fill it, and with them in the mailboxes the next launches find
                // it full.
                plan.threads = round_up<unsigned>(1u << (settings.log2_threads - 3), 32u);
                plan.sizes = Sizes::large;
            }
        } else {
            // Enough threads to fill a GPU: four to five fifths of the largest launch.
            const unsigned most = 1u << settings.log2_threads;
            plan.mixture = Mixture::brisk;
            plan.threads = round_up<unsigned>(most - random.below(most / 5), 32u);
            plan.steps = 128 + random.below(256);
            plan.width = 64u << random.below(3);
            // Half of them all sizes; else a few classes, which then are in greater demand. All threads that a GPU
            // holds at once then ask for up to 2 KiB, not 4, so that what they hold stays well below the heap's 2 GiB.
            if (random.below(2) == 0) {
                plan.log_sizes.first = random.below(11);
                plan.log_sizes.count = 1 + random.below(11 - plan.log_sizes.first);
            }
        }
        return plan;
    }
    /// About how many pairs it does: what sits out is no pair, and of the wide mixture half are frees and nulls.
    std::uint64_t about_pairs() const {
        return std::uint64_t{threads} * steps * (mixture == Mixture::wide ? 2u : 3u) / 4u;
    }
    /// Makes it no longer than about `pairs`, first by fewer steps, then by fewer threads.
    void cut(std::uint64_t pairs) {
        constexpr std::uint32_t fewest_steps = 16;
        if (about_pairs() <= pairs) return;
        steps = static_cast<std::uint32_t>(std::max<std::uint64_t>(steps * pairs / about_pairs(), fewest_steps));
        if (about_pairs() <= pairs) return;
        threads = round_up<unsigned>(static_cast<unsigned>(threads * pairs / about_pairs()) + 1u, 32u);
    }
};

} // namespace cuda_zstd::soak
