// SPDX-License-Identifier: MIT
// The CUDA backend: each member is one call of the runtime, checked.
#include "backends.hpp"
#include "cuda_zstd/host/error.hpp"
#include "fork_guard.hpp"
#include "trace_nvtx.hpp"

#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

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
    CudaBackend() {
        check_cuda(cudaGetDevice(&device_), "cudaGetDevice");
        check_cuda(cudaGetDeviceProperties(&properties_, device_), "cudaGetDeviceProperties");
        // compute-sanitizer wants the context to be there before the first call of NVTX.
        const RelaxedCapture relaxed;
        check_cuda(cudaFree(nullptr), "cudaFree");
    }

    BackendKind kind() const noexcept override { return BackendKind::cuda; }

    std::string description() const override {
        char text[512];
        std::snprintf(text, sizeof text, "CUDA: %s (sm_%d%d, %d SMs, %.1f GiB)", properties_.name, properties_.major,
                      properties_.minor, properties_.multiProcessorCount,
                      static_cast<double>(properties_.totalGlobalMem) / (1u << 30));
        return text;
    }

    unsigned processors() const noexcept override { return static_cast<unsigned>(properties_.multiProcessorCount); }

    std::size_t free_memory_bytes() const override {
        std::size_t free_bytes = 0;
        std::size_t total_bytes = 0;
        check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
        return free_bytes;
    }

    cudaStream_t create_stream() override {
        cudaStream_t stream = nullptr;
        const RelaxedCapture relaxed;
        check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
        name_own_stream(stream, stream_id(stream));
        return stream;
    }

    void destroy_stream(cudaStream_t stream) override {
        const RelaxedCapture relaxed;
        const cudaError_t waited = cudaStreamSynchronize(stream);
        check_cuda(cudaStreamDestroy(stream), "cudaStreamDestroy");
        check_cuda(waited, "cudaStreamSynchronize");
        throw_task_error();
    }

    void synchronize(cudaStream_t stream) override {
        const RelaxedCapture relaxed;
        check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
        throw_task_error();
    }

    void synchronize() override {
        wait_idle();
        throw_task_error();
    }

    void wait_idle() override {
        const RelaxedCapture relaxed;
        check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    }

    std::uint64_t stream_id(cudaStream_t stream) override {
        unsigned long long id = 0;
        check_cuda(cudaStreamGetId(stream, &id), "cudaStreamGetId");
        return id;
    }

    bool is_capturing(cudaStream_t stream) override {
        cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
        const cudaError_t error = cudaStreamIsCapturing(stream, &status);
        if (error == cudaErrorStreamCaptureImplicit) {
            (void)cudaGetLastError();
            return true;
        }
        check_cuda(error, "cudaStreamIsCapturing");
        return status != cudaStreamCaptureStatusNone;
    }

    bool captures_go_on() override {
        // Of a stream that synchronises with stream 0 the driver tells, and the question breaks no capture.
        return Backend::captures_go_on() || is_capturing(cudaStreamLegacy);
    }

    BackendCapture capture_of(cudaStream_t stream) override {
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

    BackendEvent create_event() override {
        cudaEvent_t event = nullptr;
        check_cuda(cudaEventCreate(&event), "cudaEventCreate");
        return {event};
    }

    BackendEvent create_untimed_event() override {
        cudaEvent_t event = nullptr;
        const RelaxedCapture relaxed;
        check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
        return {event};
    }

    void destroy_event(BackendEvent event) noexcept override {
        if (event.handle != nullptr) (void)cudaEventDestroy(raw(event));
    }

    void record(BackendEvent event, cudaStream_t stream) override {
        check_cuda(cudaEventRecord(raw(event), stream), "cudaEventRecord");
    }

    bool is_complete(BackendEvent event) override {
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
        check_cuda(cudaStreamWaitEvent(stream, raw(event), 0), "cudaStreamWaitEvent");
    }

    void synchronize(BackendEvent event) override {
        const RelaxedCapture relaxed;
        check_cuda(cudaEventSynchronize(raw(event)), "cudaEventSynchronize");
    }

    float elapsed_ms(BackendEvent begin, BackendEvent end) override {
        float ms = 0;
        check_cuda(cudaEventElapsedTime(&ms, raw(begin), raw(end)), "cudaEventElapsedTime");
        return ms;
    }

    void copy_async(void* to, const void* from, std::size_t bytes, cudaStream_t stream) override {
        check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync");
    }

    void fill_async(void* to, unsigned char value, std::size_t bytes, cudaStream_t stream) override {
        check_cuda(cudaMemsetAsync(to, value, bytes, stream), "cudaMemsetAsync");
    }

    void host_task(cudaStream_t stream, std::function<void()> task) override {
        auto call = std::make_unique<HostCall>(HostCall{this, std::move(task)});
        check_cuda(cudaLaunchHostFunc(stream, &CudaBackend::run_host_call, call.get()), "cudaLaunchHostFunc");
        (void)call.release();
    }

    void run_blocks(cudaStream_t, unsigned, std::function<void(unsigned, unsigned)>) override {
        throw std::logic_error("run_blocks belongs to the host backend: on the CUDA backend a kernel is launched");
    }

    void* allocate_pinned(std::size_t bytes) override {
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
        const RelaxedCapture relaxed;
        if (memory != nullptr) (void)cudaFreeHost(memory);
    }

private:
    struct HostCall {
        CudaBackend* backend;
        std::function<void()> task;
    };

    static void run_host_call(void* argument) {
        const std::unique_ptr<HostCall> call(static_cast<HostCall*>(argument));
        try {
            call->task();
        } catch (...) {
            const std::lock_guard lock(call->backend->error_mutex_);
            if (!call->backend->task_error_) call->backend->task_error_ = std::current_exception();
        }
    }

    void throw_task_error() {
        std::exception_ptr error;
        {
            const std::lock_guard lock(error_mutex_);
            error = std::exchange(task_error_, nullptr);
        }
        if (error) std::rethrow_exception(error);
    }

    int device_ = 0;
    cudaDeviceProp properties_{};
    std::mutex error_mutex_;
    std::exception_ptr task_error_;
};

} // namespace

Backend& cuda_backend() {
    if (!Backend::cuda_available())
        throw configuration_error("the CUDA backend was asked for, but no CUDA device answers; use "
                                  "CUDA_ZSTD_POOL_BACKEND=host (or auto) to run on this machine's threads");
    static CudaBackend& backend = *new CudaBackend;
    static const unsigned generation = fork_generation();
    if (is_forked_since(generation)) refuse_after_fork("the CUDA backend");
    return backend;
}

} // namespace detail

bool Backend::cuda_available() noexcept {
    static const bool available = [] {
        int devices = 0;
        const bool answers = cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
        (void)cudaGetLastError();
        return answers;
    }();
    return available;
}

} // namespace cuda_zstd
