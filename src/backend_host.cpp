// SPDX-License-Identifier: MIT
// The host backend: this machine's threads and ordinary memory.
#include "backends.hpp"
#include "cuda_zstd/host/error.hpp"
#include "environment.hpp"
#include "fork_guard.hpp"
#include "host_executor.hpp"
#include "machine.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace cuda_zstd::detail {
namespace {

struct HostEvent {
    std::mutex mutex;
    std::shared_ptr<HostPoint> point;
    bool timed = false;
};

class HostBackend final : public Backend {
public:
    HostBackend(int device, unsigned threads)
        : device_(device), executor_(threads), stream_zero_(executor_.create_queue()) {}

    BackendKind kind() const noexcept override { return BackendKind::host; }
    int device() const noexcept override { return device_; }
    /// Whether the stream is one of this device.
    bool has(cudaStream_t stream) { return executor_.has(queue(stream)); }
    std::string description() const override {
        return "host: " + std::to_string(processors()) + (processors() == 1 ? " thread" : " threads");
    }
    unsigned processors() const noexcept override { return executor_.threads(); }
    std::size_t free_memory_bytes() const override { return available_memory_bytes(); }

    cudaStream_t create_stream() override { return reinterpret_cast<cudaStream_t>(executor_.create_queue()); }
    void destroy_stream(cudaStream_t stream) override {
        if (queue(stream) == stream_zero_) throw usage_error("stream 0 cannot be destroyed");
        executor_.destroy_queue(queue(stream));
    }
    void synchronize(cudaStream_t stream) override { executor_.synchronize(queue(stream)); }
    void synchronize() override { executor_.synchronize(); }
    void wait_idle() override { executor_.wait_idle(); }
    std::uint64_t stream_id(cudaStream_t stream) override {
        if (host_device_count() > 1) require_own(stream);
        return executor_.id(queue(stream));
    }
    bool is_capturing(cudaStream_t) override { return false; }

    BackendEvent create_event() override {
        auto event = std::make_unique<HostEvent>();
        event->timed = true;
        return {event.release()};
    }
    BackendEvent create_untimed_event() override { return {new HostEvent}; }
    void destroy_event(BackendEvent event) noexcept override { delete static_cast<HostEvent*>(event.handle); }
    void record(BackendEvent event, cudaStream_t stream) override {
        auto point = executor_.mark(queue(stream));
        HostEvent& target = get(event);
        const std::lock_guard lock(target.mutex);
        target.point = std::move(point);
    }
    bool is_complete(BackendEvent event) override {
        const auto at = point(event);
        return at == nullptr || executor_.is_done(*at);
    }
    void wait(cudaStream_t stream, BackendEvent event) override { executor_.wait(queue(stream), point(event)); }
    void synchronize(BackendEvent event) override {
        if (const auto at = point(event)) executor_.wait_done(*at);
    }
    float elapsed_ms(BackendEvent begin, BackendEvent end) override {
        const auto from = point(begin);
        const auto to = point(end);
        if (!get(begin).timed || !get(end).timed) throw usage_error("elapsed_ms needs events of create_event()");
        if (from == nullptr || to == nullptr || !executor_.is_done(*from) || !executor_.is_done(*to))
            throw usage_error("elapsed_ms needs two events that were recorded and are complete");
        return std::chrono::duration<float, std::milli>(to->time - from->time).count();
    }

    void copy_async(void* to, const void* from, std::size_t bytes, cudaStream_t stream) override {
        if (bytes == 0) return;
        executor_.run(queue(stream), 1, [=](unsigned, unsigned) { std::memmove(to, from, bytes); });
    }
    void fill_async(void* to, unsigned char value, std::size_t bytes, cudaStream_t stream) override {
        if (bytes == 0) return;
        executor_.run(queue(stream), 1, [=](unsigned, unsigned) { std::memset(to, value, bytes); });
    }
    void host_task(cudaStream_t stream, std::function<void()> task) override {
        executor_.run(queue(stream), 1, [task = std::move(task)](unsigned, unsigned) { task(); });
    }
    void run_blocks(cudaStream_t stream, unsigned blocks, std::function<void(unsigned, unsigned)> block) override {
        executor_.run(queue(stream), blocks, std::move(block));
    }

    void* allocate_pinned(std::size_t bytes) override {
        constexpr std::size_t page_bytes = 4096;
        const std::size_t rounded_bytes = (bytes + page_bytes - 1) / page_bytes * page_bytes;
        void* memory = rounded_bytes < bytes
                           ? nullptr
                           : std::aligned_alloc(page_bytes, rounded_bytes ? rounded_bytes : page_bytes);
        if (memory == nullptr) throw out_of_memory("no host memory for " + std::to_string(bytes) + " bytes");
        return memory;
    }
    void free_pinned(void* memory) noexcept override { std::free(memory); }

private:
    int switch_to(int device) const noexcept override {
        return current_host_device == device ? -1 : std::exchange(current_host_device, device);
    }
    void require_own(cudaStream_t stream);
    /// cudaStreamLegacy and cudaStreamPerThread are stream 0 here.
    HostQueue* queue(cudaStream_t stream) const noexcept {
        return reinterpret_cast<std::uintptr_t>(stream) <= 2 ? stream_zero_ : reinterpret_cast<HostQueue*>(stream);
    }
    static HostEvent& get(BackendEvent event) {
        if (event.handle == nullptr) throw usage_error("an event that was never created is used");
        return *static_cast<HostEvent*>(event.handle);
    }
    static std::shared_ptr<HostPoint> point(BackendEvent event) {
        HostEvent& source = get(event);
        const std::lock_guard lock(source.mutex);
        return source.point;
    }

    const int device_;
    HostExecutor executor_;
    HostQueue* stream_zero_;
};

/// The devices that have been used.
struct HostDevices {
    std::mutex mutex;
    std::vector<HostBackend*> backends;
};
HostDevices& host_devices() {
    // Never destroyed: pools of static storage may end after it.
    static HostDevices& devices = *new HostDevices;
    return devices;
}

void HostBackend::require_own(cudaStream_t stream) {
    if (has(stream)) return;
    HostDevices& devices = host_devices();
    const std::lock_guard lock(devices.mutex);
    for (HostBackend* other : devices.backends)
        if (other != nullptr && other != this && other->has(stream)) refuse_stream_of(other->device_, device_);
}

} // namespace

constinit thread_local int current_host_device = 0;

int host_device_count() {
    static const int count = static_cast<int>(host_devices_from_environment());
    return count;
}

Backend& host_backend(int device) {
    // Of the first call. No lock: a child could find it taken.
    static constinit std::atomic<unsigned> first_generation{0};
    unsigned generation = 0;
    if (first_generation.compare_exchange_strong(generation, fork_generation())) generation = fork_generation();
    if (is_forked_since(generation)) refuse_after_fork("the host backend");
    if (device < 0 || device >= host_device_count())
        throw configuration_error("there is no host device " + std::to_string(device) + ": " +
                                  std::to_string(host_device_count()) + " in CUDA_ZSTD_POOL_HOST_DEVICES");
    HostDevices& devices = host_devices();
    const std::lock_guard lock(devices.mutex);
    devices.backends.resize(static_cast<std::size_t>(host_device_count()), nullptr);
    HostBackend*& backend = devices.backends[static_cast<std::size_t>(device)];
    if (backend == nullptr) backend = new HostBackend(device, host_threads_from_environment());
    return *backend;
}

} // namespace cuda_zstd::detail
