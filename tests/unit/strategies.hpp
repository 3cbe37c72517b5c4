// SPDX-License-Identifier: MIT
// Tests that run with each strategy, named after it.
#pragma once

#include "cuda_zstd/host/options.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace cuda_zstd {

inline auto every_strategy() { return testing::Values(Strategy::best_fit, Strategy::first_fit, Strategy::segregated); }

/// A strategy's name as a part of a test's.
inline std::string name_of(Strategy strategy) {
    std::string name = to_string(strategy);
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
}

inline std::string name_of_strategy(const testing::TestParamInfo<Strategy>& tested) { return name_of(tested.param); }

} // namespace cuda_zstd
