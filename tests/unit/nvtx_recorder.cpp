// SPDX-License-Identifier: MIT
// An NVTX tool of a few lines: records what the domain "cuda_zstd" says, for the tests of traces.
// Invariant: loaded by NVTX itself, named by NVTX_INJECTION64_PATH, so everything takes the way it takes to a profiler.
// A line begins with the thread, numbered in the order of their first events.
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtCounters.h>
#include <nvtx3/nvToolsExtMem.h>
#include <nvtx3/nvToolsExtPayload.h>

#include <atomic>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Recorder {
    std::mutex mutex;
    std::vector<std::string> lines;
    std::vector<std::string> strings;
    std::vector<std::string> counters;
    /// Whether arenas may be registered: a tool that checks memory says yes.
    bool takes_heaps = std::getenv("NVTX_RECORDER_HEAPS") != nullptr;
};

Recorder& recorder() {
    static Recorder& instance = *new Recorder;
    return instance;
}

unsigned thread_number() {
    static std::atomic<unsigned> threads{0};
    thread_local const unsigned mine = threads.fetch_add(1);
    return mine;
}

void add(const std::string& line) {
    const unsigned thread = thread_number();
    const std::lock_guard lock(recorder().mutex);
    recorder().lines.push_back(std::to_string(thread) + " " + line);
}

template <class Handle>
Handle handle_of(std::uintptr_t value) {
    return reinterpret_cast<Handle>(value);
}
std::string number(const void* handle) { return std::to_string(reinterpret_cast<std::uintptr_t>(handle)); }

std::string address(const void* ptr) {
    char text[32];
    std::snprintf(text, sizeof text, "%" PRIxPTR, reinterpret_cast<std::uintptr_t>(ptr));
    return text;
}

std::string name_of(const nvtxEventAttributes_t& attributes) {
    if (attributes.messageType != NVTX_MESSAGE_TYPE_REGISTERED) return "?";
    const std::lock_guard lock(recorder().mutex);
    return recorder().strings.at(reinterpret_cast<std::uintptr_t>(attributes.message.registered) - 1);
}

/// "BYTES", or of a payload with the schema "BYTES/STREAM/POOL".
std::string payload_of(const nvtxEventAttributes_t& attributes) {
    if (attributes.payloadType != static_cast<std::int32_t>(NVTX_PAYLOAD_TYPE_EXT))
        return std::to_string(attributes.payload.ullValue);
    const auto* data = reinterpret_cast<const nvtxPayloadData_t*>(attributes.payload.ullValue);
    if (attributes.reserved0 != 1 || data->schemaId != 1000 || data->size != 24) return "wrong";
    std::uint64_t words[2];
    std::uint32_t pool = 0;
    std::memcpy(words, data->payload, sizeof words);
    std::memcpy(&pool, static_cast<const char*>(data->payload) + 16, sizeof pool);
    return std::to_string(words[0]) + "/" + std::to_string(words[1]) + "/" + std::to_string(pool);
}

nvtxDomainHandle_t NVTX_API domain_create(const char* name) {
    add(std::string("domain ") + name);
    return handle_of<nvtxDomainHandle_t>(std::string(name) == "cuda_zstd" ? 1 : 2);
}

nvtxStringHandle_t NVTX_API register_string(nvtxDomainHandle_t, const char* text) {
    const std::lock_guard lock(recorder().mutex);
    recorder().strings.emplace_back(text);
    return handle_of<nvtxStringHandle_t>(recorder().strings.size());
}

void NVTX_API name_category(nvtxDomainHandle_t, std::uint32_t category, const char* name) {
    add("category " + std::to_string(category) + " " + name);
}

int NVTX_API push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
    add("push " + number(domain) + " " + name_of(*attributes) + " " + std::to_string(attributes->category) + " " +
        payload_of(*attributes));
    return 0;
}

int NVTX_API pop(nvtxDomainHandle_t domain) {
    add("pop " + number(domain));
    return 0;
}

void NVTX_API mark(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
    add("mark " + number(domain) + " " + name_of(*attributes) + " " + std::to_string(attributes->category) + " " +
        payload_of(*attributes));
}

nvtxResourceHandle_t NVTX_API create_resource(nvtxDomainHandle_t, nvtxResourceAttributes_t* attributes) {
    add(std::string("resource ") + attributes->message.ascii);
    return handle_of<nvtxResourceHandle_t>(
        reinterpret_cast<std::uintptr_t>(new std::string(attributes->message.ascii)));
}

void NVTX_API destroy_resource(nvtxResourceHandle_t resource) {
    const auto* name = reinterpret_cast<const std::string*>(resource);
    add("resource gone " + *name);
    delete name;
}

std::uint64_t NVTX_API register_schema(nvtxDomainHandle_t, const nvtxPayloadSchemaAttr_t* schema) {
    std::string line = std::string("schema ") + schema->name;
    for (std::size_t index = 0; index < schema->numEntries; ++index)
        line += std::string(" ") + schema->entries[index].name + "@" + std::to_string(schema->entries[index].offset);
    add(line);
    return 1000;
}

std::uint64_t NVTX_API register_counter(nvtxDomainHandle_t, const nvtxCounterAttr_t* attributes) {
    const std::lock_guard lock(recorder().mutex);
    recorder().counters.emplace_back(attributes->name);
    return recorder().counters.size();
}

std::string counter_name(std::uint64_t id) {
    const std::lock_guard lock(recorder().mutex);
    return recorder().counters.at(id - 1);
}

void NVTX_API sample_int(nvtxDomainHandle_t, std::uint64_t id, std::int64_t value) {
    add("counter " + counter_name(id) + " = " + std::to_string(value));
}

void NVTX_API sample_float(nvtxDomainHandle_t, std::uint64_t id, double value) {
    add("counter " + counter_name(id) + " = " + std::to_string(value));
}

/// "batch NAME TIME=VALUE TIME=VALUE...".
void NVTX_API submit_batch(nvtxDomainHandle_t, const nvtxCounterBatch_t* batch) {
    const auto* values = static_cast<const std::int64_t*>(batch->counters);
    std::string line = "batch " + counter_name(batch->counterId);
    const bool is_right = batch->countersSize == batch->timestampsSize && batch->flags == NVTX_BATCH_FLAG_TIME_SORTED;
    for (std::size_t at = 0; is_right && at < batch->countersSize / sizeof *values; ++at)
        line.append(" ").append(std::to_string(batch->timestamps[at])).append("=").append(std::to_string(values[at]));
    add(line);
}

nvtxMemHeapHandle_t NVTX_API register_heap(nvtxDomainHandle_t, const nvtxMemHeapDesc_t* heap) {
    if (!recorder().takes_heaps || heap->extCompatID != NVTX_EXT_COMPATID_MEM ||
        heap->usage != NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR ||
        heap->typeSpecificDescSize != sizeof(nvtxMemVirtualRangeDesc_t))
        return nullptr;
    const auto* range = static_cast<const nvtxMemVirtualRangeDesc_t*>(heap->typeSpecificDesc);
    add("heap " + address(range->ptr) + " " + std::to_string(range->size) + " " + heap->message.ascii);
    return handle_of<nvtxMemHeapHandle_t>(reinterpret_cast<std::uintptr_t>(range->ptr));
}

void NVTX_API unregister_heap(nvtxDomainHandle_t, nvtxMemHeapHandle_t heap) { add("heap gone " + address(heap)); }
void NVTX_API reset_heap(nvtxDomainHandle_t, nvtxMemHeapHandle_t heap) { add("heap reset " + address(heap)); }

void NVTX_API register_regions(nvtxDomainHandle_t, const nvtxMemRegionsRegisterBatch_t* batch) {
    const auto* ranges = static_cast<const nvtxMemVirtualRangeDesc_t*>(batch->regionDescElements);
    for (std::size_t index = 0; index < batch->regionCount; ++index)
        add("region " + address(ranges[index].ptr) + " " + std::to_string(ranges[index].size) + " in " +
            address(batch->heap));
}

void NVTX_API unregister_regions(nvtxDomainHandle_t, const nvtxMemRegionsUnregisterBatch_t* batch) {
    for (std::size_t index = 0; index < batch->refCount; ++index)
        add("region gone " + address(batch->refElements[index].pointer));
}

void NVTX_API name_regions(nvtxDomainHandle_t, const nvtxMemRegionsNameBatch_t* batch) {
    for (std::size_t index = 0; index < batch->regionCount; ++index) {
        const auto& element = batch->regionElements[index];
        // What compute-sanitizer takes.
        const std::size_t length = std::strlen(element.name.ascii);
        add("region name " + address(element.region.pointer) + " " +
            (length >= 1 && length <= 49 ? element.name.ascii : "of a wrong length"));
    }
}

template <class Function>
void put(NvtxFunctionTable table, unsigned slot, Function function) {
    *table[slot] = reinterpret_cast<NvtxFunctionPointer>(function);
}

template <class Function>
void put(const nvtxExtModuleInfo_t* info, std::size_t slot, Function function) {
    for (std::size_t index = 0; index < info->segmentsCount; ++index)
        if (slot < info->segments[index].slotCount) {
            info->segments[index].functionSlots[slot] = reinterpret_cast<std::intptr_t>(function);
            return;
        }
}

} // namespace

extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
    // As a tool that has no use for domains and ranges: every domain is null.
    if (std::getenv("NVTX_RECORDER_MEMORY_ALONE") != nullptr) return 1;
    const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
    NvtxFunctionTable table = nullptr;
    unsigned size = 0;
    if (callbacks == nullptr || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size)) return 0;
    put(table, NVTX_CBID_CORE2_DomainCreateA, &domain_create);
    put(table, NVTX_CBID_CORE2_DomainRegisterStringA, &register_string);
    put(table, NVTX_CBID_CORE2_DomainNameCategoryA, &name_category);
    put(table, NVTX_CBID_CORE2_DomainRangePushEx, &push);
    put(table, NVTX_CBID_CORE2_DomainRangePop, &pop);
    put(table, NVTX_CBID_CORE2_DomainMarkEx, &mark);
    put(table, NVTX_CBID_CORE2_DomainResourceCreate, &create_resource);
    put(table, NVTX_CBID_CORE2_DomainResourceDestroy, &destroy_resource);
    return 1;
}

extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtxExtension(nvtxExtModuleInfo_t* info) {
    if (info->moduleId == NVTX_EXT_PAYLOAD_MODULEID) {
        put(info, NVTX3EXT_CBID_nvtxPayloadSchemaRegister, &register_schema);
    } else if (info->moduleId == NVTX_EXT_COUNTERS_MODULEID) {
        put(info, NVTX3EXT_CBID_nvtxCounterRegister, &register_counter);
        put(info, NVTX3EXT_CBID_nvtxCounterSampleInt64, &sample_int);
        put(info, NVTX3EXT_CBID_nvtxCounterSampleFloat64, &sample_float);
        put(info, NVTX3EXT_CBID_nvtxCounterBatchSubmit, &submit_batch);
    } else if (info->moduleId == NVTX_EXT_MODULEID_MEM) {
        put(info, NVTX3EXT_CBID_nvtxMemHeapRegister, &register_heap);
        put(info, NVTX3EXT_CBID_nvtxMemHeapUnregister, &unregister_heap);
        put(info, NVTX3EXT_CBID_nvtxMemHeapReset, &reset_heap);
        put(info, NVTX3EXT_CBID_nvtxMemRegionsRegister, &register_regions);
        put(info, NVTX3EXT_CBID_nvtxMemRegionsUnregister, &unregister_regions);
        put(info, NVTX3EXT_CBID_nvtxMemRegionsName, &name_regions);
    } else {
        return 0;
    }
    return 1;
}

/// What was recorded since the last call, a line each; copies at most `bytes`, with the closing zero. The bytes that
/// there are.
extern "C" __attribute__((visibility("default"))) std::size_t take_recorded(char* to, std::size_t bytes) {
    const std::lock_guard lock(recorder().mutex);
    std::string text;
    for (const std::string& line : recorder().lines)
        text += line + "\n";
    if (text.size() >= bytes) return text.size() + 1;
    recorder().lines.clear();
    std::memcpy(to, text.c_str(), text.size() + 1);
    return text.size() + 1;
}
