// SPDX-License-Identifier: MIT
#include "backends.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/options.hpp"
#include "fork_guard.hpp"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace cuda_zstd {

Backend::Backend() : generation_(detail::fork_generation()) {}

bool Backend::is_forked() const noexcept { return detail::is_forked_since(generation_); }

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

void Backend::announce_capture() noexcept {
    if (!is_forked()) captures_.announce();
}

void Backend::end_capture() noexcept {
    if (!is_forked()) captures_.end();
}

void Backend::note_capture() noexcept { captures_.note(); }

bool Backend::captures_go_on() { return captures_.has_captures(); }

bool Backend::has_notice_of(const BackendCapture& capture) {
    const std::lock_guard lock(notices_mutex_);
    return std::any_of(noticed_streams_.begin(), noticed_streams_.end(), [&](cudaStream_t stream) {
        try {
            return is_capturing(stream) && capture_of(stream).id == capture.id;
        } catch (const usage_error&) {
            return false; // that capture has failed, this one goes on
        }
    });
}

WaitPermit::WaitPermit(Backend& backend) : backend_(backend), is_given_(backend.captures_.begin_wait()) {
    try {
        if (!is_given_ || !backend_.captures_go_on()) return;
    } catch (...) {
        backend_.captures_.end_wait();
        throw;
    }
    backend_.captures_.end_wait();
    is_given_ = false;
}

CaptureNotice::CaptureNotice(Backend& backend, cudaStream_t stream) : backend_(backend), stream_(stream) {
    {
        const std::lock_guard lock(backend_.notices_mutex_);
        backend_.noticed_streams_.push_back(stream);
    }
    backend_.announce_capture();
}

CaptureNotice::~CaptureNotice() {
    if (backend_.is_forked()) return;
    if (stream_) {
        const std::lock_guard lock(backend_.notices_mutex_);
        auto& streams = backend_.noticed_streams_;
        streams.erase(std::find(streams.begin(), streams.end(), *stream_));
    }
    backend_.end_capture();
}

BackendCapture Backend::capture_of(cudaStream_t) { return {}; }

void Backend::retain_by_graph(void*, void (*)(void*), void*) { throw std::logic_error("this backend has no graphs"); }

BackendWork Backend::record_work(const std::function<void(cudaStream_t)>&) { return {}; }
void Backend::submit(BackendWork, cudaStream_t) { throw std::logic_error("this backend records no work"); }
void Backend::destroy_work(BackendWork) noexcept {}

Backend& Backend::get() {
    static const BackendKind chosen = [] {
        if (const auto kind = backend_from_environment()) return *kind;
        return cuda_available() ? BackendKind::cuda : BackendKind::host;
    }();
    return get(chosen);
}

} // namespace cuda_zstd
