// SPDX-License-Identifier: MIT
#include "backends.hpp"
#include "cuda_zstd/host/options.hpp"

#include <stdexcept>

namespace cuda_zstd {

Backend& Backend::get(BackendKind kind) {
    return kind == BackendKind::cuda ? detail::cuda_backend() : detail::host_backend();
}

bool Backend::captures_go_on() { return captures_.load(std::memory_order_acquire) != 0; }

BackendCapture Backend::capture_of(cudaStream_t) { return {}; }

void Backend::retain_by_graph(void*, void (*)(void*), void*) { throw std::logic_error("this backend has no graphs"); }

Backend& Backend::get() {
    static Backend& chosen = []() -> Backend& {
        if (const auto kind = backend_from_environment()) return get(*kind);
        return get(cuda_available() ? BackendKind::cuda : BackendKind::host);
    }();
    return chosen;
}

} // namespace cuda_zstd
