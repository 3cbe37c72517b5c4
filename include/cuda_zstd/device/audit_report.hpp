// SPDX-License-Identifier: MIT
// What DevicePool::audit returns.
// Invariant: plain data; true as a condition if nothing is wrong.
#pragma once

#include "cuda_zstd/device/hardening_state.hpp"
#include "cuda_zstd/heap/audit_finding.hpp"

namespace cuda_zstd {

struct AuditReport {
    AuditFinding finding; ///< the heap's own metadata
    FaultReport faults;   ///< users' blocks; a build that is not hardened looks for none

    explicit operator bool() const { return static_cast<bool>(finding) && faults.first == Fault::none; }
};

} // namespace cuda_zstd
