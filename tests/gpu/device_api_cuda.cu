// SPDX-License-Identifier: MIT
#include "../suite/cuda_launch.cuh"

#include "../suite/device_api.inc"
#include "../suite/host_frees.inc"
#include "../suite/pool_vector.inc"
