// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/trace.hpp"

#if CUDA_ZSTD_POOL_NVTX

#include <nvtx3/nvToolsExt.h>

namespace cuda_zstd {
namespace {

nvtxDomainHandle_t domain() {
    static const nvtxDomainHandle_t handle = [] {
        const nvtxDomainHandle_t created = nvtxDomainCreateA("cuda_zstd");
        constexpr struct {
            TraceCategory category;
            const char* name;
        } names[] = {{TraceCategory::allocate, "allocate"}, {TraceCategory::free, "free"},
                     {TraceCategory::grow, "grow"},         {TraceCategory::trim, "trim"},
                     {TraceCategory::compact, "compact"},   {TraceCategory::wave, "wave"}};
        for (const auto& entry : names)
            nvtxDomainNameCategoryA(created, static_cast<std::uint32_t>(entry.category), entry.name);
        return created;
    }();
    return handle;
}

} // namespace

TraceName::TraceName(const char* name, TraceCategory category)
    : string_(nvtxDomainRegisterStringA(domain(), name)), category_(category) {}

TraceRange::TraceRange(const TraceName& name, std::size_t payload_bytes) noexcept {
    nvtxEventAttributes_t attributes{};
    attributes.version = NVTX_VERSION;
    attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    attributes.category = static_cast<std::uint32_t>(name.category_);
    attributes.payloadType = NVTX_PAYLOAD_TYPE_UNSIGNED_INT64;
    attributes.payload.ullValue = payload_bytes;
    attributes.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
    attributes.message.registered = static_cast<nvtxStringHandle_t>(name.string_);
    nvtxDomainRangePushEx(domain(), &attributes);
}

TraceRange::~TraceRange() { nvtxDomainRangePop(domain()); }

} // namespace cuda_zstd

#endif
