// SPDX-License-Identifier: MIT
#include "../suite/host_launch.hpp"

#include "../suite/device_api.inc"
#include "../suite/host_frees.inc"
#include "../suite/pool_vector.inc"
