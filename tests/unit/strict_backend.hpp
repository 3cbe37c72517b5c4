// SPDX-License-Identifier: MIT
// A backend that knows what the driver forbids while a capture goes on.
// Invariant: a forbidden call throws, as the driver's does, and is listed. Captures begin and end, and forbidden calls
// are listed, from any thread; the rest is as the manual backend's.
#pragma once

#include "manual_backend.hpp"

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace cuda_zstd::detail {

/// Knows what the driver forbids while a capture goes on: to wait for the device, to ask for a captured stream's id or
/// to wait for it, to bring an event into a capture or out of one, and to look at one that was recorded there.
class StrictBackend final : public ManualBackend {
public:
    StrictBackend() : ManualBackend(8) {}
    ~StrictBackend() override {
        for (void* graph : graphs_)
            release(graph);
    }
    void begin(std::uint64_t stream) {
        const std::lock_guard lock(mutex_);
        captures_[stream] = {++last_capture_, &last_capture_};
    }
    void end(std::uint64_t stream) {
        const std::lock_guard lock(mutex_);
        captures_.erase(stream);
    }
    const std::vector<std::string>& forbidden() const { return forbidden_; }
    unsigned idle_waits = 0;
    /// Called when a wait for all streams has begun, and before an event is recorded on a stream: what another thread
    /// can do just then.
    std::function<void()> during_idle_wait;
    std::function<void(std::uint64_t stream)> before_record;

    bool is_capturing(cudaStream_t stream) override {
        const std::lock_guard lock(mutex_);
        return captures_.contains(number(stream));
    }
    BackendCapture capture_of(cudaStream_t stream) override {
        const std::lock_guard lock(mutex_);
        const auto found = captures_.find(number(stream));
        return found == captures_.end() ? BackendCapture{} : found->second;
    }
    void retain_by_graph(void*, void (*call)(void*), void* context) override {
        release_ = call;
        graphs_.push_back(context);
    }
    /// All graphs go.
    void drop_graphs() {
        for (void* graph : graphs_)
            release(graph);
        graphs_.clear();
    }
    std::uint64_t stream_id(cudaStream_t stream) override {
        refuse_if(is_capturing(stream), "cudaStreamGetId of a captured stream");
        return number(stream);
    }
    void synchronize() override { wait_idle(); }
    void wait_idle() override {
        ++idle_waits;
        if (during_idle_wait) during_idle_wait();
        refuse_if(has_captures(), "cudaDeviceSynchronize");
        ManualBackend::wait_idle();
    }
    void record(BackendEvent event, cudaStream_t stream) override {
        if (before_record) before_record(number(stream));
        refuse_if(is_capturing(stream), "cudaEventRecord on a captured stream");
        ManualBackend::record(event, stream);
    }
    void wait(cudaStream_t stream, BackendEvent event) override {
        refuse_if(is_capturing(stream), "cudaStreamWaitEvent of a captured stream on work outside");
        ManualBackend::wait(stream, event);
    }

private:
    static std::uint64_t number(cudaStream_t stream) { return reinterpret_cast<std::uint64_t>(stream); }
    void release(void* graph) { release_(graph); }
    bool has_captures() {
        const std::lock_guard lock(mutex_);
        return !captures_.empty();
    }
    /// As the driver does: an error, and the capture is lost.
    void refuse_if(bool forbidden, const char* call) {
        if (!forbidden) return;
        const std::lock_guard lock(mutex_);
        forbidden_.push_back(call);
        throw cuda_error(std::string(call) + " failed: cudaErrorStreamCaptureUnsupported");
    }

    std::mutex mutex_;
    std::map<std::uint64_t, BackendCapture> captures_;
    std::uint64_t last_capture_ = 0;
    std::vector<std::string> forbidden_;
    void (*release_)(void*) = nullptr;
    std::vector<void*> graphs_;
};

} // namespace cuda_zstd::detail
