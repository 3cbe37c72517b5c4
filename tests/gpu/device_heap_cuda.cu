// SPDX-License-Identifier: MIT
#include "../suite/cuda_launch.cuh"

#include "../suite/device_heap.inc"
