// SPDX-License-Identifier: MIT
#include "../suite/cuda_launch.cuh"

#include "../suite/relocation.inc"
