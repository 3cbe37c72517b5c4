// SPDX-License-Identifier: MIT
// When a device pool compacts by itself: what DevicePool::between_launches goes by.
//
// Invariant: decided by the host from the last published report, without waiting for the device: so a decision is about
// the work of some launches ago. Pure functions of plain data.
#pragma once

#include "cuda_zstd/heap/compaction.hpp"
#include "cuda_zstd/heap/heap_report.hpp"

#include <cstdint>

namespace cuda_zstd {

struct CompactionPolicy {
    /// What a failed allocation leads to.
    enum class AfterFailure : unsigned char { nothing, compact };

    /// Compacts at every n-th call; 0: not by count.
    std::uint32_t every_calls = 0;
    /// Surveys the heap at every n-th call that compacts nothing, so that there is a report to go by; 0: never.
    std::uint32_t survey_every_calls = 16;
    /// Compacts when a report says more; a share from 0 to 1, 1: never. Fragmentation is HeapReport::fragmentation, the
    /// free share HeapReport::free_slot_share.
    double fragmentation_above = 1.0;
    double free_slot_share_above = 1.0;
    AfterFailure after_failure = AfterFailure::compact;
    /// How; online, since other streams' kernels may run. A budget keeps a call's share of the device small.
    Compaction how{Compaction::Form::online, 4096};
};

/// Why a call compacted.
enum class CompactionReason : unsigned char { none, count, failure, fragmentation, free_share };

/// What a policy has to remember from one call to the next.
class CompactionClock {
public:
    /// The call that is being made: why it is to compact.
    CompactionReason tick(const CompactionPolicy& policy, const HeapReport& report) {
        ++calls_since_compaction_;
        ++calls_since_survey_;
        const CompactionReason reason = reason_now(policy, report);
        failures_seen_ = report.failed_allocations;
        report_seen_ = report.sequence;
        if (reason != CompactionReason::none) calls_since_compaction_ = calls_since_survey_ = 0;
        return reason;
    }
    /// Whether the call, which compacts nothing, is to survey.
    bool wants_survey(const CompactionPolicy& policy) {
        if (policy.survey_every_calls == 0 || calls_since_survey_ < policy.survey_every_calls) return false;
        calls_since_survey_ = 0;
        return true;
    }

private:
    CompactionReason reason_now(const CompactionPolicy& policy, const HeapReport& report) const {
        if (policy.every_calls != 0 && calls_since_compaction_ >= policy.every_calls) return CompactionReason::count;
        // A report leads to one compaction: whether that has helped, the next report says.
        if (report.sequence == report_seen_) return CompactionReason::none;
        if (policy.after_failure == CompactionPolicy::AfterFailure::compact &&
            report.failed_allocations != failures_seen_)
            return CompactionReason::failure;
        if (report.fragmentation() > policy.fragmentation_above) return CompactionReason::fragmentation;
        if (report.free_slot_share() > policy.free_slot_share_above) return CompactionReason::free_share;
        return CompactionReason::none;
    }

    std::uint32_t calls_since_compaction_ = 0;
    std::uint32_t calls_since_survey_ = 0;
    std::uint32_t failures_seen_ = 0;
    std::uint64_t report_seen_ = 0;
};

} // namespace cuda_zstd
