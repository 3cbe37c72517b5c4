// SPDX-License-Identifier: MIT
// The seed of a run: CUDA_ZSTD_TEST_SEED=N makes each test that draws at random draw something else.
// Invariant: without it, or with 0, the draws are always the same; with it a test that fails names it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace cuda_zstd {

inline std::uint64_t run_seed() {
    static const std::uint64_t seed = [] {
        const char* const text = std::getenv("CUDA_ZSTD_TEST_SEED");
        return text == nullptr || *text == 0 ? 0 : std::stoull(text);
    }();
    return seed;
}

/// The seed of a generator that would have `own` in a plain run.
inline std::uint64_t test_seed(std::uint64_t own) {
    if (run_seed() == 0) return own;
    // SplitMix64 (Steele, Lea, Flood 2014): generators with neighboring seeds have nothing in common.
    std::uint64_t mixed = own + run_seed() * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

class SeedListener : public testing::EmptyTestEventListener {
    void OnTestEnd(const testing::TestInfo& info) override {
        if (info.result()->Failed() && run_seed() != 0)
            std::printf("CUDA_ZSTD_TEST_SEED=%llu draws this again\n", static_cast<unsigned long long>(run_seed()));
    }
};
inline const bool seed_is_told = (testing::UnitTest::GetInstance()->listeners().Append(new SeedListener), true);

} // namespace cuda_zstd
