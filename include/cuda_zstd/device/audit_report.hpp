// SPDX-License-Identifier: MIT
// What DevicePool::audit returns.
// Invariant: plain data; true as a condition if nothing is wrong.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/device/fault_report.hpp"
#include "cuda_zstd/heap/audit_finding.hpp"
#include "cuda_zstd/heap/live_census.hpp"

#include <string>

namespace cuda_zstd {

struct AuditReport {
    AuditFinding finding; ///< the heap's own metadata
    FaultReport faults;   ///< users' blocks; a build that is not hardened looks for none
    LiveCensus census;    ///< live blocks by size class

    explicit operator bool() const { return static_cast<bool>(finding) && faults.first == Fault::none; }
};

/// A line for the heap's own fault, for each block's fault that is kept, and for live blocks: address, size, and where
/// in the source, in which function, the block was allocated and freed; and live blocks by size class. Empty where
/// there is nothing to say.
CUDA_ZSTD_API std::string to_text(const AuditReport& report);

} // namespace cuda_zstd
