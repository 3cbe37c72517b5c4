// SPDX-License-Identifier: MIT
#include "../suite/host_launch.hpp"

#include "../suite/compaction.inc"
#include "../suite/compaction_policy.inc"
