// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/trace.hpp"

#include "environment.hpp"
#include "trace_nvtx.hpp"

#include <string>

#if CUDA_ZSTD_POOL_NVTX
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtCounters.h>
#include <nvtx3/nvToolsExtPayload.h>
#include <nvtx3/nvToolsExtSemanticsCounters.h>
#endif

namespace cuda_zstd {

NvtxMode nvtx_mode() {
#if CUDA_ZSTD_POOL_NVTX
    static const NvtxMode mode = [] {
        const auto text = detail::variable("CUDA_ZSTD_POOL_NVTX");
        if (!text || *text == "coarse") return NvtxMode::coarse;
        if (*text == "off") return NvtxMode::off;
        if (*text == "fine") return NvtxMode::fine;
        detail::refuse("CUDA_ZSTD_POOL_NVTX", *text, "expected off, coarse or fine");
    }();
    return mode;
#else
    return NvtxMode::off;
#endif
}

#if CUDA_ZSTD_POOL_NVTX

namespace {

/// The domain and what is registered with it; `handle` is null where no tool listens or nothing is wanted.
struct Domain {
    nvtxDomainHandle_t handle = nullptr;
    std::uint64_t call_schema = 0;

    Domain() noexcept {
        try {
            if (nvtx_mode() == NvtxMode::off) return;
        } catch (...) {
            return; // The first pool says so.
        }
        handle = nvtxDomainCreateA("cuda_zstd");
        if (handle == nullptr) return;
        constexpr struct {
            TraceCategory category;
            const char* name;
        } names[] = {{TraceCategory::allocate, "allocate"}, {TraceCategory::free, "free"},
                     {TraceCategory::grow, "grow"},         {TraceCategory::trim, "trim"},
                     {TraceCategory::compact, "compact"},   {TraceCategory::wave, "wave"}};
        for (const auto& entry : names)
            nvtxDomainNameCategoryA(handle, static_cast<std::uint32_t>(entry.category), entry.name);
        register_schema();
    }

    void register_schema() noexcept {
        nvtxPayloadSchemaEntry_t entries[3] = {};
        const auto set = [&](int index, const char* name, std::uint64_t type, std::size_t offset) {
            entries[index].type = type;
            entries[index].name = name;
            entries[index].offset = offset;
        };
        set(0, "bytes", NVTX_PAYLOAD_ENTRY_TYPE_UINT64, offsetof(TracePayload, bytes));
        set(1, "stream", NVTX_PAYLOAD_ENTRY_TYPE_UINT64, offsetof(TracePayload, stream));
        set(2, "pool", NVTX_PAYLOAD_ENTRY_TYPE_UINT32, offsetof(TracePayload, pool));
        nvtxPayloadSchemaAttr_t schema{};
        schema.fieldMask = NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NAME | NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_TYPE |
                           NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_ENTRIES | NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NUM_ENTRIES |
                           NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_STATIC_SIZE;
        schema.name = "pool call";
        schema.type = NVTX_PAYLOAD_SCHEMA_TYPE_STATIC;
        schema.entries = entries;
        schema.numEntries = 3;
        schema.payloadStaticSize = sizeof(TracePayload);
        call_schema = nvtxPayloadSchemaRegister(handle, &schema);
    }
};

const Domain& domain() noexcept {
    static const Domain instance;
    return instance;
}

nvtxEventAttributes_t attributes_of(void* string, TraceCategory category) noexcept {
    nvtxEventAttributes_t attributes{};
    attributes.version = NVTX_VERSION;
    attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    attributes.category = static_cast<std::uint32_t>(category);
    attributes.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
    attributes.message.registered = static_cast<nvtxStringHandle_t>(string);
    return attributes;
}

void set_payload(nvtxEventAttributes_t& attributes, nvtxPayloadData_t& data, const TracePayload& payload) noexcept {
    if (const std::uint64_t schema = domain().call_schema; schema != 0) {
        NVTX_PAYLOAD_EVTATTR_SET_DATA(attributes, &data, schema, &payload, sizeof payload)
    } else {
        // A tool that knows no schemas shows the bytes.
        attributes.payloadType = NVTX_PAYLOAD_TYPE_UNSIGNED_INT64;
        attributes.payload.ullValue = payload.bytes;
    }
}

std::uint64_t counter(const std::string& name, const char* what, std::uint64_t type, const char* unit) {
    nvtxSemanticsCounter_t semantics{};
    semantics.header.structSize = sizeof semantics;
    semantics.header.semanticId = NVTX_SEMANTIC_ID_COUNTERS_V1;
    semantics.header.version = NVTX_COUNTER_SEMANTIC_VERSION;
    semantics.flags = NVTX_COUNTER_FLAG_VALUETYPE_ABSOLUTE | NVTX_COUNTER_FLAG_INTERPOLATION_UNTIL_NEXT;
    semantics.unit = unit;
    semantics.unitScaleNumerator = 1;
    semantics.unitScaleDenominator = 1;
    const std::string full_name = name + " " + what;
    nvtxCounterAttr_t attributes{};
    attributes.structSize = sizeof attributes;
    attributes.schemaId = type;
    attributes.name = full_name.c_str();
    attributes.scopeId = NVTX_SCOPE_NONE;
    attributes.semantics = &semantics.header;
    return nvtxCounterRegister(domain().handle, &attributes);
}

} // namespace

namespace detail {
nvtxDomainRegistration_st* nvtx_domain() noexcept { return domain().handle; }
} // namespace detail

TraceName::TraceName(const char* name, TraceCategory category)
    : string_(domain().handle == nullptr ? nullptr : nvtxDomainRegisterStringA(domain().handle, name)),
      category_(category) {}

TraceRange::TraceRange(const TraceName& name, std::size_t payload_bytes) noexcept
    : pushed_(domain().handle != nullptr) {
    if (!pushed_) return;
    nvtxEventAttributes_t attributes = attributes_of(name.string_, name.category_);
    attributes.payloadType = NVTX_PAYLOAD_TYPE_UNSIGNED_INT64;
    attributes.payload.ullValue = payload_bytes;
    nvtxDomainRangePushEx(domain().handle, &attributes);
}

TraceRange::TraceRange(const TraceName& name, const TracePayload& payload) noexcept
    : pushed_(domain().handle != nullptr) {
    if (!pushed_) return;
    nvtxEventAttributes_t attributes = attributes_of(name.string_, name.category_);
    nvtxPayloadData_t data{};
    set_payload(attributes, data, payload);
    nvtxDomainRangePushEx(domain().handle, &attributes);
}

TraceRange::~TraceRange() {
    if (pushed_) nvtxDomainRangePop(domain().handle);
}

void trace_mark(const TraceName& name, const TracePayload& payload) noexcept {
    if (domain().handle == nullptr) return;
    nvtxEventAttributes_t attributes = attributes_of(name.string_, name.category_);
    nvtxPayloadData_t data{};
    set_payload(attributes, data, payload);
    nvtxDomainMarkEx(domain().handle, &attributes);
}

TraceCounters::TraceCounters(const std::string& name) {
    if (domain().handle == nullptr) return;
    constexpr auto whole = NVTX_PAYLOAD_ENTRY_TYPE_INT64;
    in_use_ = counter(name, "bytes in use", whole, "bytes");
    mapped_ = counter(name, "bytes mapped", whole, "bytes");
    free_ = counter(name, "bytes free", whole, "bytes");
    cached_ = counter(name, "bytes cached", whole, "bytes");
    largest_free_ = counter(name, "largest free run", whole, "bytes");
    fragmentation_ = counter(name, "fragmentation", NVTX_PAYLOAD_ENTRY_TYPE_DOUBLE, "1");
}

void TraceCounters::sample(const TraceFigures& figures) const noexcept {
    if (!wanted()) return;
    const auto handle = domain().handle;
    const auto bytes = [&](std::uint64_t id, std::uint64_t value) {
        nvtxCounterSampleInt64(handle, id, static_cast<std::int64_t>(value));
    };
    const std::uint64_t known_bytes = figures.in_use_bytes + figures.free_bytes;
    bytes(in_use_, figures.in_use_bytes);
    bytes(mapped_, figures.mapped_bytes);
    bytes(free_, figures.free_bytes);
    bytes(cached_, figures.mapped_bytes > known_bytes ? figures.mapped_bytes - known_bytes : 0);
    bytes(largest_free_, figures.largest_free_bytes);
    nvtxCounterSampleFloat64(handle, fragmentation_,
                             figures.free_bytes == 0 ? 0.0
                                                     : 1.0 - static_cast<double>(figures.largest_free_bytes) /
                                                                 static_cast<double>(figures.free_bytes));
}

#endif

} // namespace cuda_zstd
