// SPDX-License-Identifier: MIT
// The same tests on the CUDA backend, whatever the environment names; skipped by name where no device answers.
#include "cuda_zstd/host/backend.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace {

class NeedsDevice : public testing::EmptyTestEventListener {
public:
    void OnTestStart(const testing::TestInfo&) override {
        if (!cuda_zstd::Backend::cuda_available()) GTEST_SKIP() << "no CUDA device";
    }
};

} // namespace

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (cuda_zstd::Backend::cuda_available()) setenv("CUDA_ZSTD_POOL_BACKEND", "cuda", 1);
    testing::UnitTest::GetInstance()->listeners().Append(new NeedsDevice);
    return RUN_ALL_TESTS();
}
