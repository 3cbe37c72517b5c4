// SPDX-License-Identifier: MIT
// Running a Relacy suite from a unit test: a right one must survive the search, a mutated one must be reported.
// Invariant: a search is a function of its parameters; nothing here draws random numbers of its own.
#pragma once

#include "cuda_zstd/env/relacy_env.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <ostream>
#include <streambuf>
#include <string>

namespace cuda_zstd::model {

/// A search that explores every execution of a small suite (fair: threads that pause let others go on).
inline rl::test_params exhaustive() {
    rl::test_params params;
    params.search_type = rl::fair_full_search_scheduler_type;
    params.execution_depth_limit = 20'000;
    return params;
}

/// Every execution with at most `switches` forced switches between threads.
inline rl::test_params context_bound(unsigned switches) {
    rl::test_params params;
    params.search_type = rl::fair_context_bound_scheduler_type;
    params.context_bound = switches;
    params.execution_depth_limit = 20'000;
    return params;
}

/// Random executions, always the same ones; CUDA_ZSTD_MODEL_SCALE=20 in the environment makes it twenty times as many.
inline rl::test_params random_search(unsigned iterations) {
    rl::test_params params;
    if (const char* const scale = std::getenv("CUDA_ZSTD_MODEL_SCALE"); scale != nullptr && std::atoi(scale) > 0)
        iterations *= static_cast<unsigned>(std::atoi(scale));
    params.search_type = rl::random_scheduler_type;
    params.iteration_count = iterations;
    params.execution_depth_limit = 20'000;
    return params;
}

/// A stream that keeps the first bytes and drops the rest. Relacy replaces operator new while a simulation runs, so a
/// stream that grew inside would be freed outside by another allocator.
class FixedBuffer : public std::streambuf {
public:
    FixedBuffer() { clear(); }
    void clear() { setp(bytes_.data(), bytes_.data() + bytes_.size()); }
    std::string text() const { return {pbase(), pptr()}; }

protected:
    int_type overflow(int_type byte) override { return traits_type::not_eof(byte); }

private:
    std::array<char, std::size_t{1} << 18> bytes_;
};

struct Finding {
    rl::test_result_e result;
    rl::iteration_t executions;
    std::string report;
};

template <class Suite>
Finding check(rl::test_params params) {
    static FixedBuffer buffer;
    buffer.clear();
    std::ostream output(&buffer);
    params.output_stream = &output;
    params.progress_stream = &output;
    rl::simulate<Suite>(params);
    return {params.test_result, params.stop_iteration, buffer.text()};
}

/// The suite must survive.
template <class Suite>
void expect_right(const rl::test_params& params) {
    const Finding finding = check<Suite>(params);
    EXPECT_EQ(finding.result, rl::test_result_success)
        << rl::test_result_str(finding.result) << " after " << finding.executions << " executions\n"
        << finding.report;
    std::printf("%llu executions\n", static_cast<unsigned long long>(finding.executions));
}

/// The suite has a planted bug, which must be reported.
template <class Suite>
void expect_reported(const rl::test_params& params) {
    const Finding finding = check<Suite>(params);
    EXPECT_NE(finding.result, rl::test_result_success) << "the planted bug was not found\n" << finding.report;
    std::printf("%s, execution %llu\n", rl::test_result_str(finding.result),
                static_cast<unsigned long long>(finding.executions));
}

/// Weakens one kind of access from one order to relaxed.
template <Access access, Order order>
struct Relaxed : AsWritten {
    static constexpr Order order_of(Access of, Order asked, ModelSite) {
        return of == access && asked == order ? Order::relaxed : asked;
    }
};

} // namespace cuda_zstd::model
