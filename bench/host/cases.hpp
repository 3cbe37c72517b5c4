// SPDX-License-Identifier: MIT
// What is measured. Each case warms up first, with the same calls, and takes the median of its rounds: as many as its
// time allows, and one at least.
#pragma once

#include "subject.hpp"

#include "cuda_zstd/host/backend.hpp"

#include <cstdint>
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
    /// After which no further round begins.
    double rounds_s = 1;
};

enum class Scale : std::uint8_t { usual, many_blocks };

struct Case {
    std::string name;
    /// One of the short list, which a plain run takes.
    bool usual = false;
    /// Whether its set-up makes 100,000 blocks and more: too many for a subject that asks the driver for each.
    Scale scale = Scale::usual;
    /// For subjects whose name begins so; empty: all but the machine, which is none.
    std::string only_for;
    std::function<std::vector<Figure>(const Bench&)> run;
};

std::vector<Case> all_cases(const cuda_zstd::Backend& backend);

/// Times of single steps of this machine: no subject's.
std::vector<Figure> single_steps(const Bench& bench);
/// Bytes of the process's heap for each live block of the size, and what is allowed: 32 B and 1 % of the block.
std::vector<Figure> metadata(const Bench& bench, unsigned blocks, std::size_t bytes);

} // namespace bench
