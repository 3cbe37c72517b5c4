// SPDX-License-Identifier: MIT
// What is measured. Each case warms up first, with the same calls, and takes the median of its rounds.
#pragma once

#include "subject.hpp"

#include "cuda_zstd/host/backend.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace bench {

/// A figure of a case.
struct Figure {
    std::string metric;
    std::string unit;
    double value = 0;
};

/// What a case needs: its backend, and the subject with a setting.
struct Bench {
    cuda_zstd::Backend& backend;
    std::function<std::unique_ptr<Subject>(const Setting&)> make;
};

struct Case {
    std::string name;
    /// One of the short list, which a plain run takes.
    bool usual = false;
    /// For subjects whose name begins so; empty: all.
    std::string only_for;
    std::function<std::vector<Figure>(const Bench&)> run;
};

std::vector<Case> all_cases(const cuda_zstd::Backend& backend);

} // namespace bench
