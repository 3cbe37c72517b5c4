// SPDX-License-Identifier: MIT
// An NVTX tool of a few lines: records the ranges of the domain "cuda_zstd", for trace_test.
// Invariant: loaded by NVTX itself, named by NVTX_INJECTION64_PATH, so the ranges take the way they take to a profiler.
#include <nvtx3/nvToolsExt.h>

#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Recorder {
    std::mutex mutex;
    std::vector<std::string> lines;
    std::vector<std::string> strings;
};

Recorder& recorder() {
    static Recorder& instance = *new Recorder;
    return instance;
}

void add(const std::string& line) {
    const std::lock_guard lock(recorder().mutex);
    recorder().lines.push_back(line);
}

nvtxDomainHandle_t NVTX_API domain_create(const char* name) {
    add(std::string("domain ") + name);
    return reinterpret_cast<nvtxDomainHandle_t>(std::string(name) == "cuda_zstd" ? 1 : 2);
}

nvtxStringHandle_t NVTX_API register_string(nvtxDomainHandle_t, const char* text) {
    const std::lock_guard lock(recorder().mutex);
    recorder().strings.emplace_back(text);
    return reinterpret_cast<nvtxStringHandle_t>(recorder().strings.size());
}

void NVTX_API name_category(nvtxDomainHandle_t, std::uint32_t category, const char* name) {
    add("category " + std::to_string(category) + " " + name);
}

int NVTX_API push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
    std::string name = "?";
    if (attributes->messageType == NVTX_MESSAGE_TYPE_REGISTERED) {
        const std::lock_guard lock(recorder().mutex);
        name = recorder().strings.at(reinterpret_cast<std::uintptr_t>(attributes->message.registered) - 1);
    }
    add("push " + std::to_string(reinterpret_cast<std::uintptr_t>(domain)) + " " + name + " " +
        std::to_string(attributes->category) + " " + std::to_string(attributes->payload.ullValue));
    return 0;
}

int NVTX_API pop(nvtxDomainHandle_t domain) {
    add("pop " + std::to_string(reinterpret_cast<std::uintptr_t>(domain)));
    return 0;
}

template <class Function>
void put(NvtxFunctionTable table, unsigned slot, Function function) {
    *table[slot] = reinterpret_cast<NvtxFunctionPointer>(function);
}

} // namespace

extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
    const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
    NvtxFunctionTable table = nullptr;
    unsigned size = 0;
    if (callbacks == nullptr || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size)) return 0;
    put(table, NVTX_CBID_CORE2_DomainCreateA, &domain_create);
    put(table, NVTX_CBID_CORE2_DomainRegisterStringA, &register_string);
    put(table, NVTX_CBID_CORE2_DomainNameCategoryA, &name_category);
    put(table, NVTX_CBID_CORE2_DomainRangePushEx, &push);
    put(table, NVTX_CBID_CORE2_DomainRangePop, &pop);
    return 1;
}

/// What was recorded since the last call, a line each; copies at most `bytes`, with the closing zero.
extern "C" __attribute__((visibility("default"))) void take_recorded(char* to, std::size_t bytes) {
    const std::lock_guard lock(recorder().mutex);
    std::string text;
    for (const std::string& line : recorder().lines)
        text += line + "\n";
    recorder().lines.clear();
    std::snprintf(to, bytes, "%s", text.c_str());
}
