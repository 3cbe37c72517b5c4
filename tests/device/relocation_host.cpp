// SPDX-License-Identifier: MIT
#include "../suite/host_launch.hpp"

#include "../suite/relocation.inc"
