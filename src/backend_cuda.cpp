// SPDX-License-Identifier: MIT
// The CUDA backend: each member is one call of the runtime, checked.
#include "backends.hpp"
#include "cuda_zstd/host/error.hpp"
#include "fork_guard.hpp"
#include "host_tasks.hpp"
#include "stream_calls.hpp"
#include "trace_nvtx.hpp"

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace cuda_zstd {
namespace detail {

void check_cuda(cudaError_t status, const char* call) {
    if (status == cudaSuccess) return;
    (void)cudaGetLastError();
    throw cuda_error(std::string(call) + " failed: " + cudaGetErrorName(status) + " (" + cudaGetErrorString(status) +
                     ")");
}

namespace {

cudaEvent_t raw(BackendEvent event) { return static_cast<cudaEvent_t>(event.handle); }

class CudaBackend final : public Backend {
public:
    explicit CudaBackend(int device) : device_(device) {
        check_cuda(cudaGetDeviceProperties(&properties_, device_), "cudaGetDeviceProperties");
        // compute-sanitizer wants the context to be there before the first call of NVTX.
        const RelaxedCapture relaxed;
        const DeviceScope here(*this);
        check_cuda(cudaFree(nullptr), "cudaFree");
    }

    BackendKind kind() const noexcept override { return BackendKind::cuda; }
    int device() const noexcept override { return device_; }

    std::string description() const override {
        char text[512];
        std::snprintf(text, sizeof text, "CUDA: %s (sm_%d%d, %d SMs, %.1f GiB)", properties_.name, properties_.major,
                      properties_.minor, properties_.multiProcessorCount,
                      static_cast<double>(properties_.totalGlobalMem) / (1u << 30));
        return text;
    }

    unsigned processors() const noexcept override { return static_cast<unsigned>(properties_.multiProcessorCount); }

    std::size_t free_memory_bytes() const override {
        require_alive();
        const DeviceScope device(*this);
        std::size_t free_bytes = 0;
        std::size_t total_bytes = 0;
        check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
        return free_bytes;
    }

    std::size_t give_back_caches() override {
        if (is_retired()) return 0;
        const RelaxedCapture relaxed;
        cudaMemPool_t pool = nullptr;
        std::uint64_t before_bytes = 0;
        std::uint64_t after_bytes = 0;
        const bool trimmed =
            cudaDeviceGetDefaultMemPool(&pool, device_) == cudaSuccess &&
            cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &before_bytes) == cudaSuccess &&
            cudaMemPoolTrimTo(pool, 0) == cudaSuccess &&
            cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &after_bytes) == cudaSuccess;
        if (!trimmed) (void)cudaGetLastError(); // a device without such a pool
        return trimmed && after_bytes < before_bytes ? static_cast<std::size_t>(before_bytes - after_bytes) : 0;
    }

    cudaStream_t create_stream() override {
        require_alive();
        const DeviceScope device(*this);
        cudaStream_t stream = nullptr;
        const RelaxedCapture relaxed;
        check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
        name_own_stream(stream, stream_id(stream));
        return stream;
    }

    void destroy_stream(cudaStream_t stream) override {
        require_alive();
        const RelaxedCapture relaxed;
        const cudaError_t waited = cudaStreamSynchronize(stream);
        check_cuda(cudaStreamDestroy(stream), "cudaStreamDestroy");
        check_cuda(waited, "cudaStreamSynchronize");
        tasks_.rethrow();
    }

    void synchronize(cudaStream_t stream) override {
        require_alive();
        const DefaultStreamScope device(*this, stream);
        const RelaxedCapture relaxed;
        check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
        tasks_.rethrow();
    }

    void synchronize() override {
        wait_idle();
        tasks_.rethrow();
    }

    void wait_idle() override {
        require_alive();
        const DeviceScope device(*this);
        const RelaxedCapture relaxed;
        check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    }

    std::uint64_t stream_id(cudaStream_t stream) override {
        require_alive();
        const DefaultStreamScope device(*this, stream);
        require_own(stream);
        return streams_.id(stream);
    }

    bool is_capturing(cudaStream_t stream) override {
        require_alive();
        const DefaultStreamScope device(*this, stream);
        return streams_.is_capturing(stream);
    }

    bool captures_go_on() override {
        // Of a stream that synchronises with stream 0 the driver tells, and the question breaks no capture.
        return Backend::captures_go_on() || is_capturing(cudaStreamLegacy);
    }

    BackendCapture capture_of(cudaStream_t stream) override {
        require_alive();
        const DefaultStreamScope device(*this, stream);
        cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
        unsigned long long id = 0;
        cudaGraph_t graph = nullptr;
#if CUDART_VERSION >= 13000
        check_cuda(cudaStreamGetCaptureInfo(stream, &status, &id, &graph), "cudaStreamGetCaptureInfo");
#else
        check_cuda(cudaStreamGetCaptureInfo_v2(stream, &status, &id, &graph), "cudaStreamGetCaptureInfo");
#endif
        if (status == cudaStreamCaptureStatusInvalidated)
            throw usage_error("the stream's capture into a graph has failed: end it first");
        return status == cudaStreamCaptureStatusActive ? BackendCapture{id, graph} : BackendCapture{};
    }

    void retain_by_graph(void* graph, void (*release)(void*), void* context) override {
        require_alive();
        const RelaxedCapture relaxed;
        cudaUserObject_t object = nullptr;
        check_cuda(cudaUserObjectCreate(&object, context, release, 1, cudaUserObjectNoDestructorSync),
                   "cudaUserObjectCreate");
        const cudaError_t status =
            cudaGraphRetainUserObject(static_cast<cudaGraph_t>(graph), object, 1, cudaGraphUserObjectMove);
        if (status == cudaSuccess) return;
        // The object cannot be given up without the call of `release`, which must not come: it is kept.
        check_cuda(status, "cudaGraphRetainUserObject");
    }

    BackendWork record_work(const std::function<void(cudaStream_t)>& body) override {
        require_alive();
        const DeviceScope device(*this);
        const RelaxedCapture relaxed;
        cudaStream_t stream = nullptr;
        check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t work = nullptr;
        const auto release = [&] {
            if (graph != nullptr) cudaGraphDestroy(graph);
            cudaStreamDestroy(stream);
        };
        try {
            check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
            try {
                body(stream);
            } catch (...) {
                cudaStreamEndCapture(stream, &graph);
                (void)cudaGetLastError();
                throw;
            }
            check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
            check_cuda(cudaGraphInstantiate(&work, graph, 0), "cudaGraphInstantiate");
        } catch (...) {
            release();
            throw;
        }
        release();
        return {work};
    }
    void submit(BackendWork work, cudaStream_t stream) override {
        require_alive();
        const DeviceScope device(*this);
        check_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(work.handle), stream), "cudaGraphLaunch");
    }
    void destroy_work(BackendWork work) noexcept override {
        if (work.handle == nullptr || is_retired()) return;
        const DeviceScope device(*this);
        const RelaxedCapture relaxed;
        cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(work.handle));
    }

    BackendEvent create_event() override {
        require_alive();
        const DeviceScope device(*this);
        cudaEvent_t event = nullptr;
        check_cuda(cudaEventCreate(&event), "cudaEventCreate");
        return {event};
    }

    BackendEvent create_untimed_event() override {
        require_alive();
        const DeviceScope device(*this);
        cudaEvent_t event = nullptr;
        const RelaxedCapture relaxed;
        check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
        return {event};
    }

    void destroy_event(BackendEvent event) noexcept override {
        if (event.handle != nullptr && !is_retired()) (void)cudaEventDestroy(raw(event));
    }

    void record(BackendEvent event, cudaStream_t stream) override {
        require_alive();
        const DefaultStreamScope device(*this, stream);
        streams_.record(raw(event), stream);
    }

    bool is_complete(BackendEvent event) override {
        require_alive();
        const RelaxedCapture relaxed;
        const cudaError_t status = cudaEventQuery(raw(event));
        if (status == cudaErrorNotReady) {
            (void)cudaGetLastError();
            return false;
        }
        check_cuda(status, "cudaEventQuery");
        return true;
    }

    void wait(cudaStream_t stream, BackendEvent event) override {
        require_alive();
        const DefaultStreamScope device(*this, stream);
        check_cuda(cudaStreamWaitEvent(stream, raw(event), 0), "cudaStreamWaitEvent");
    }

    void synchronize(BackendEvent event) override {
        require_alive();
        const RelaxedCapture relaxed;
        check_cuda(cudaEventSynchronize(raw(event)), "cudaEventSynchronize");
    }

    float elapsed_ms(BackendEvent begin, BackendEvent end) override {
        require_alive();
        float ms = 0;
        check_cuda(cudaEventElapsedTime(&ms, raw(begin), raw(end)), "cudaEventElapsedTime");
        return ms;
    }

    void copy_async(void* to, const void* from, std::size_t bytes, cudaStream_t stream) override {
        require_alive();
        const DeviceScope device(*this);
        check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync");
    }

    void fill_async(void* to, unsigned char value, std::size_t bytes, cudaStream_t stream) override {
        require_alive();
        const DeviceScope device(*this);
        check_cuda(cudaMemsetAsync(to, value, bytes, stream), "cudaMemsetAsync");
    }

    void host_task(cudaStream_t stream, std::function<void()> task) override {
        require_alive();
        const DeviceScope device(*this);
        tasks_.launch(stream, std::move(task));
    }

    void run_blocks(cudaStream_t, unsigned, std::function<void(unsigned, unsigned)>) override {
        throw std::logic_error("run_blocks belongs to the host backend: on the CUDA backend a kernel is launched");
    }

    void* allocate_pinned(std::size_t bytes) override {
        require_alive();
        const DeviceScope device(*this);
        void* memory = nullptr;
        const RelaxedCapture relaxed;
        const cudaError_t status = cudaMallocHost(&memory, bytes == 0 ? 1 : bytes);
        if (status == cudaErrorMemoryAllocation) {
            (void)cudaGetLastError();
            throw out_of_memory("no page-locked host memory for " + std::to_string(bytes) + " bytes");
        }
        check_cuda(status, "cudaMallocHost");
        return memory;
    }

    void free_pinned(void* memory) noexcept override {
        if (memory == nullptr || is_retired()) return;
        const RelaxedCapture relaxed;
        (void)cudaFreeHost(memory);
    }

private:
    /// The streams that every device has: which one is meant depends on the current device.
    class DefaultStreamScope {
    public:
        DefaultStreamScope(const CudaBackend& backend, cudaStream_t stream) noexcept
            : backend_(backend),
              before_(reinterpret_cast<std::uintptr_t>(stream) <= 2 ? backend.switch_to(backend.device_) : -1) {}
        ~DefaultStreamScope() {
            if (before_ >= 0) (void)backend_.switch_to(before_);
        }
        DefaultStreamScope(const DefaultStreamScope&) = delete;
        DefaultStreamScope& operator=(const DefaultStreamScope&) = delete;

    private:
        const CudaBackend& backend_;
        const int before_;
    };

    int switch_to(int device) const noexcept override {
        if (cuda_device_count() <= 1 || is_retired()) return -1;
        int before = -1;
        if (cudaGetDevice(&before) != cudaSuccess || before == device) return -1;
        return cudaSetDevice(device) == cudaSuccess ? before : -1;
    }

    void require_alive() const {
        if (is_retired()) throw cuda_error("the program ends: the CUDA driver may be gone");
    }

    /// Events of one device cannot be recorded on another's stream.
    void require_own([[maybe_unused]] cudaStream_t stream) const {
#if CUDART_VERSION >= 12080
        if (cuda_device_count() <= 1 || reinterpret_cast<std::uintptr_t>(stream) <= 2) return;
        int its_device = device_;
        check_cuda(cudaStreamGetDevice(stream, &its_device), "cudaStreamGetDevice");
        if (its_device != device_) refuse_stream_of(its_device, device_);
#endif
    }

    int device_ = 0;
    cudaDeviceProp properties_{};
    const StreamCalls streams_;
    HostTasks tasks_;
};

} // namespace

int cuda_device_count() noexcept {
    static const int count = [] {
        int devices = 0;
        const bool answers = cudaGetDeviceCount(&devices) == cudaSuccess;
        (void)cudaGetLastError();
        return answers ? devices : 0;
    }();
    return count;
}

void refuse_stream_of(int device, int own_device) {
    throw usage_error("the stream belongs to device " + std::to_string(device) +
                      ", the pool and its memory to device " + std::to_string(own_device) +
                      ": name a stream of that device, or use the pool of the stream's");
}

Backend& cuda_backend(int device) {
    if (!Backend::cuda_available())
        throw configuration_error("the CUDA backend was asked for, but no CUDA device answers; use "
                                  "CUDA_ZSTD_POOL_BACKEND=host (or auto) to run on this machine's threads");
    static const unsigned generation = fork_generation();
    if (is_forked_since(generation)) refuse_after_fork("the CUDA backend");
    if (device < 0 || device >= cuda_device_count())
        throw configuration_error("there is no CUDA device " + std::to_string(device) + ": " +
                                  std::to_string(cuda_device_count()) + " answer");
    static std::mutex mutex;
    static std::vector<CudaBackend*>& backends =
        *new std::vector<CudaBackend*>(static_cast<std::size_t>(cuda_device_count()), nullptr);
    const std::lock_guard lock(mutex);
    CudaBackend*& backend = backends[static_cast<std::size_t>(device)];
    if (backend == nullptr) {
        auto made = std::make_unique<CudaBackend>(device);
        made->retire_at_exit();
        backend = made.release();
    }
    return *backend;
}

} // namespace detail

bool Backend::cuda_available() noexcept { return detail::cuda_device_count() > 0; }

} // namespace cuda_zstd
