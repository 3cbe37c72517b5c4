// SPDX-License-Identifier: MIT
// Tests hold back tasks of several streams at once: the host backend needs a thread for each, and one to go on.
#include <gtest/gtest.h>

#include <cstdlib>

int main(int argc, char** argv) {
    setenv("CUDA_ZSTD_POOL_HOST_THREADS", "8", 0);
    setenv("CUDA_ZSTD_POOL_HOST_DEVICES", "2", 0);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
