// SPDX-License-Identifier: MIT
#include "cuda_zstd/device/audit_report.hpp"

#include <cstdio>

namespace cuda_zstd {
namespace {

const char* name_of(Fault fault) {
    switch (fault) {
    case Fault::none:
        return "no fault";
    case Fault::red_zone:
        return "bytes outside of the block were overwritten";
    case Fault::write_after_free:
        return "written to after its free";
    case Fault::never_allocated:
        return "freed, but never allocated";
    case Fault::double_free:
        return "freed twice";
    }
    return "unknown";
}

std::string block_text(std::uint64_t block, std::uint64_t bytes) {
    char text[80];
    if (bytes != 0)
        std::snprintf(text, sizeof text, "block %#llx of %llu bytes", static_cast<unsigned long long>(block),
                      static_cast<unsigned long long>(bytes));
    else
        std::snprintf(text, sizeof text, "block %#llx", static_cast<unsigned long long>(block));
    return text;
}

std::string place_text(const char* what, const PlaceText& place) {
    if (place.line == 0) return {};
    std::string text = std::string(", ") + what;
    if (place.function[0] != 0) text += std::string(" by ") + place.function;
    return text + " at " + place.file + ":" + std::to_string(place.line);
}

std::string census_text(const LiveCensus& census) {
    if (census.all_blocks() == 0) return {};
    std::string text = "live blocks:";
    const char* between = " ";
    for (unsigned at = 0; at < size_class_count; ++at) {
        if (census.blocks[at] == 0) continue;
        text += between + std::to_string(census.blocks[at]) + " of " + std::to_string(slot_bytes_of(at)) + " B";
        between = ", ";
    }
    if (census.runs != 0)
        text += between + std::to_string(census.runs) + " of whole pages, " + std::to_string(census.run_bytes) +
                " B in all";
    return text + "\n";
}

} // namespace

std::string to_text(const AuditReport& report) {
    std::string text;
    if (!report.finding)
        text += std::string("heap: ") + cuda_zstd::name_of(report.finding.broken) + " at " +
                std::to_string(report.finding.where) + ": found " + std::to_string(report.finding.found) +
                ", expected " + std::to_string(report.finding.expected) + "\n";
    const FaultReport& faults = report.faults;
    for (std::uint32_t at = 0; at < faults.record_count; ++at) {
        const FaultRecord& record = faults.records[at];
        text += block_text(record.block, record.bytes) + ": " + name_of(record.fault) +
                place_text("allocated", record.allocated) + place_text("freed", record.freed) +
                place_text(record.fault == Fault::double_free ? "freed again" : "found when freed", record.found_by) +
                "\n";
    }
    const std::uint64_t all =
        std::uint64_t{faults.red_zones} + faults.writes_after_free + faults.never_allocated + faults.double_frees;
    if (all > faults.record_count) text += std::to_string(all - faults.record_count) + " faults more\n";
    for (std::uint32_t at = 0; at < faults.live_record_count; ++at) {
        const LiveRecord& record = faults.live[at];
        text += block_text(record.block, record.bytes) + ": live" + place_text("allocated", record.allocated) + "\n";
    }
    if (faults.live_blocks > faults.live_record_count)
        text += std::to_string(faults.live_blocks - faults.live_record_count) + " live blocks more, " +
                std::to_string(faults.live_bytes) + " bytes in all\n";
    return text + census_text(report.census);
}

} // namespace cuda_zstd
