// SPDX-License-Identifier: MIT
#include "backends.hpp"
#include "cuda_zstd/host/options.hpp"

namespace cuda_zstd {

Backend& Backend::get(BackendKind kind) {
    return kind == BackendKind::cuda ? detail::cuda_backend() : detail::host_backend();
}

Backend& Backend::get() {
    static Backend& chosen = []() -> Backend& {
        if (const auto kind = backend_from_environment()) return get(*kind);
        return get(cuda_available() ? BackendKind::cuda : BackendKind::host);
    }();
    return chosen;
}

} // namespace cuda_zstd
