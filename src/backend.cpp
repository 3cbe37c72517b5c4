// SPDX-License-Identifier: MIT
#include "backends.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/options.hpp"

#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace cuda_zstd {

Backend& Backend::get(BackendKind kind) {
    return get(kind, kind == BackendKind::cuda && !cuda_available() ? 0 : current_device(kind));
}

Backend& Backend::get(BackendKind kind, int device) {
    return kind == BackendKind::cuda ? detail::cuda_backend(device) : detail::host_backend(device);
}

int Backend::device_count(BackendKind kind) {
    return kind == BackendKind::cuda ? detail::cuda_device_count() : detail::host_device_count();
}

int Backend::current_device(BackendKind kind) {
    if (kind == BackendKind::host) return detail::current_host_device;
    int device = 0;
    if (detail::cuda_device_count() > 1) detail::check_cuda(cudaGetDevice(&device), "cudaGetDevice");
    return device;
}

void Backend::set_device(BackendKind kind, int device) {
    if (device < 0 || device >= device_count(kind))
        throw configuration_error("there is no " + std::string(kind == BackendKind::cuda ? "CUDA" : "host") +
                                  " device " + std::to_string(device) + ": " + std::to_string(device_count(kind)) +
                                  (device_count(kind) == 1 ? " is there" : " are there"));
    if (kind == BackendKind::cuda)
        detail::check_cuda(cudaSetDevice(device), "cudaSetDevice");
    else
        detail::current_host_device = device;
}

void Backend::retire_at_exit() {
    static std::mutex mutex;
    static std::vector<Backend*>& backends = *new std::vector<Backend*>;
    const std::lock_guard lock(mutex);
    backends.push_back(this);
    // Handlers run in the reverse order of their registration: the first backend's own comes last of them.
    (void)std::atexit([] {
        for (Backend* backend : backends)
            backend->retire();
    });
}

bool Backend::captures_go_on() { return captures_.load(std::memory_order_acquire) != 0; }

BackendCapture Backend::capture_of(cudaStream_t) { return {}; }

void Backend::retain_by_graph(void*, void (*)(void*), void*) { throw std::logic_error("this backend has no graphs"); }

Backend& Backend::get() {
    static const BackendKind chosen = [] {
        if (const auto kind = backend_from_environment()) return *kind;
        return cuda_available() ? BackendKind::cuda : BackendKind::host;
    }();
    return get(chosen);
}

} // namespace cuda_zstd
