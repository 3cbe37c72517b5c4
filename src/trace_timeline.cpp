// SPDX-License-Identifier: MIT
#include "trace_timeline.hpp"

#include "cuda_zstd/host/trace.hpp"
#include "trace_nvtx.hpp"

#if CUDA_ZSTD_POOL_NVTX
#include <nvtx3/nvToolsExtCounters.h>
#include <nvtx3/nvToolsExtSemanticsCounters.h>
#include <nvtx3/nvToolsExtSemanticsTime.h>
#endif

namespace cuda_zstd::detail {

#if CUDA_ZSTD_POOL_NVTX

NvtxTimeline::NvtxTimeline(const std::string& name, const char* unit) {
    if (nvtx_domain() == nullptr) return;
    nvtxSemanticsTime_t time{};
    time.header.structSize = sizeof time;
    time.header.semanticId = NVTX_SEMANTIC_ID_TIME_V1;
    time.header.version = NVTX_TIME_SEMANTIC_VERSION;
    time.timeDomainId = NVTX_TIMESTAMP_TYPE_CPU_CLOCK_GETTIME_MONOTONIC;
    nvtxSemanticsCounter_t semantics{};
    semantics.header.structSize = sizeof semantics;
    semantics.header.semanticId = NVTX_SEMANTIC_ID_COUNTERS_V1;
    semantics.header.version = NVTX_COUNTER_SEMANTIC_VERSION;
    semantics.header.next = &time.header;
    semantics.flags = NVTX_COUNTER_FLAG_VALUETYPE_ABSOLUTE | NVTX_COUNTER_FLAG_INTERPOLATION_UNTIL_NEXT;
    semantics.unit = unit;
    semantics.unitScaleNumerator = 1;
    semantics.unitScaleDenominator = 1;
    nvtxCounterAttr_t attributes{};
    attributes.structSize = sizeof attributes;
    attributes.schemaId = NVTX_PAYLOAD_ENTRY_TYPE_INT64;
    attributes.name = name.c_str();
    attributes.scopeId = NVTX_SCOPE_NONE;
    attributes.semantics = &semantics.header;
    counter_ = nvtxCounterRegister(nvtx_domain(), &attributes);
}

void NvtxTimeline::submit(std::span<const std::int64_t> values, std::span<const std::int64_t> times_ns) const noexcept {
    if (counter_ == 0 || values.empty()) return;
    nvtxCounterBatch_t batch{};
    batch.counterId = counter_;
    batch.counters = values.data();
    batch.countersSize = values.size_bytes();
    batch.flags = NVTX_BATCH_FLAG_TIME_SORTED;
    batch.timestamps = times_ns.data();
    batch.timestampsSize = times_ns.size_bytes();
    nvtxCounterBatchSubmit(nvtx_domain(), &batch);
}

#else

NvtxTimeline::NvtxTimeline(const std::string&, const char*) {}
void NvtxTimeline::submit(std::span<const std::int64_t>, std::span<const std::int64_t>) const noexcept {}

#endif

} // namespace cuda_zstd::detail
