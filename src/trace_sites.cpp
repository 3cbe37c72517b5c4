// SPDX-License-Identifier: MIT
#include "trace_sites.hpp"

#include "environment.hpp"

#include <boost/unordered/unordered_flat_map.hpp>

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace cuda_zstd::detail {
namespace {
constexpr std::size_t part_count = 64;
}

struct alignas(64) CallSites::Part {
    mutable std::mutex mutex;
    boost::unordered_flat_map<const void*, CallSite> sites;

    static std::size_t number_of(const void* ptr) noexcept {
        return (reinterpret_cast<std::uintptr_t>(ptr) >> 8) * 0x9e3779b97f4a7c15u >> 40 & (part_count - 1);
    }
};

TrackMode track_mode_from_environment() {
    const auto text = variable("CUDA_ZSTD_POOL_TRACK");
    if (!text || *text == "off") return TrackMode::off;
    if (*text == "sample") return TrackMode::sample;
    if (*text == "all") return TrackMode::all;
    refuse("CUDA_ZSTD_POOL_TRACK", *text, "expected off, sample or all");
}

CallSites::CallSites() : parts_(std::make_unique<Part[]>(part_count)) {
    // The first backtrace loads a library: not inside an allocation.
    void* frame = nullptr;
    (void)backtrace(&frame, 1);
}
CallSites::~CallSites() = default;

CallSite CallSites::here(const void* return_address) noexcept {
    void* frames[CallSite::most_frames + 8];
    const int count = backtrace(frames, static_cast<int>(std::size(frames)));
    // The pool's own frames come first.
    const auto found = std::find(frames, frames + count, return_address);
    CallSite site;
    site.frames[0] = return_address;
    if (found != frames + count)
        std::copy_n(found, std::min<std::ptrdiff_t>(frames + count - found, CallSite::most_frames), site.frames);
    return site;
}

void CallSites::add(const void* ptr, const CallSite& site) noexcept try {
    Part& part = parts_[Part::number_of(ptr)];
    const std::lock_guard lock(part.mutex);
    part.sites.insert_or_assign(ptr, site);
} catch (...) {
    // No memory: the block is listed without a site.
}

CallSite CallSites::take(const void* ptr) noexcept {
    Part& part = parts_[Part::number_of(ptr)];
    const std::lock_guard lock(part.mutex);
    const auto found = part.sites.find(ptr);
    if (found == part.sites.end()) return {};
    const CallSite site = found->second;
    part.sites.erase(found);
    return site;
}

void CallSites::clear() noexcept {
    for (std::size_t index = 0; index < part_count; ++index) {
        const std::lock_guard lock(parts_[index].mutex);
        parts_[index].sites.clear();
    }
}

void CallSites::for_each(const std::function<void(const void* ptr, const CallSite& site)>& visit) const {
    for (std::size_t index = 0; index < part_count; ++index) {
        const std::lock_guard lock(parts_[index].mutex);
        for (const auto& [ptr, site] : parts_[index].sites)
            visit(ptr, site);
    }
}

std::string CallSites::describe(const void* ptr) const {
    CallSite site;
    {
        const Part& part = parts_[Part::number_of(ptr)];
        const std::lock_guard lock(part.mutex);
        const auto found = part.sites.find(ptr);
        if (found == part.sites.end()) return {};
        site = found->second;
    }
    std::string text;
    for (const void* frame : site.frames)
        if (frame != nullptr) text += "      from " + symbol_of(frame) + "\n";
    return text;
}

std::string symbol_of(const void* return_address) {
    // The call is before the address that it returns to, which may belong to the next function.
    const auto* const call = static_cast<const char*>(return_address) - 1;
    char text[64];
    Dl_info info{};
    if (dladdr(call, &info) == 0 || info.dli_fname == nullptr) {
        std::snprintf(text, sizeof text, "%p", return_address);
        return text;
    }
    const std::string path = info.dli_fname;
    std::snprintf(text, sizeof text, "+%#zx)",
                  static_cast<std::size_t>(call - static_cast<const char*>(info.dli_fbase)));
    std::string place = "(";
    place.append(path, path.rfind('/') + 1).append(text);
    if (info.dli_sname == nullptr) return place;
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> readable(
        abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status), &std::free);
    return std::string(status == 0 ? readable.get() : info.dli_sname) + " " + place;
}

} // namespace cuda_zstd::detail
