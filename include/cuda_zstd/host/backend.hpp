// SPDX-License-Identifier: MIT
// Where work runs: on a CUDA device, or on this machine's threads.
//
// Invariant: both backends keep the order of a stream. A `cudaStream_t` of the host backend is a queue of our own
// that runs its tasks in order; only this class may look behind the handle, and the CUDA runtime is never given one.
// Stream 0 is there on both. The host's is a queue like the others: every stream of `create_stream` is non-blocking,
// so there is none that stream 0 would have to wait for. An exception that leaves a task or a block is thrown by the
// next synchronize of its stream (or of all streams). There is one backend for each device.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/host/capture_gate.hpp"

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace cuda_zstd {

enum class BackendKind : std::uint8_t { cuda, host };

/// A point in a stream's work. Created, recorded, queried and destroyed through the backend that made it.
struct BackendEvent {
    void* handle = nullptr;
};

/// Work that was recorded, to be submitted as a whole.
struct BackendWork {
    void* handle = nullptr;
};

/// A capture into a graph that is under way.
struct BackendCapture {
    /// No other capture of the process has it; 0: there is no capture.
    std::uint64_t id = 0;
    void* graph = nullptr;
};

/// Streams, events, copies and launches. Every member may be called from any thread. Errors of the CUDA runtime
/// are thrown as `cuda_error` (error.hpp), naming the call and the runtime's reason.
class CUDA_ZSTD_API Backend {
public:
    virtual ~Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;

    /// The process's backend, for the calling thread's current device: what CUDA_ZSTD_POOL_BACKEND (auto, cuda, host)
    /// names; `auto` takes CUDA where a device answers. Throws `configuration_error` when `cuda` is asked for and no
    /// device answers.
    static Backend& get();
    /// The backend of a kind, for the calling thread's current device. Throws `configuration_error` when that kind is
    /// not available here.
    static Backend& get(BackendKind kind);
    /// For a device by its index. Throws `configuration_error` where there is no such device.
    static Backend& get(BackendKind kind, int device);
    /// CUDA devices that answer; CUDA_ZSTD_POOL_HOST_DEVICES (1 to 16, else 1) on the host, where each has queues and
    /// threads of its own.
    static int device_count(BackendKind kind);
    /// The calling thread's: CUDA's, or the host backend's, which begins as 0.
    static int current_device(BackendKind kind);
    /// Throws `configuration_error` where there is no such device.
    static void set_device(BackendKind kind, int device);
    /// Whether a CUDA device answers.
    static bool cuda_available() noexcept;

    virtual BackendKind kind() const noexcept = 0;
    /// Every call of the backend is about this device, whichever is current: so are the streams 0, legacy and
    /// per-thread. A stream of another device is refused (`usage_error`).
    virtual int device() const noexcept { return 0; }
    /// For people: "CUDA: NVIDIA H100 80GB HBM3 (sm_90, 132 SMs, 79.2 GiB)" or "host: 2 threads".
    virtual std::string description() const = 0;
    /// SMs of the device, or worker threads of the host backend. At least 1.
    virtual unsigned processors() const noexcept = 0;
    /// Bytes of physical memory that arenas could still take now.
    virtual std::size_t free_memory_bytes() const = 0;

    /// Makes the driver give back what it caches itself (cudaMallocAsync's default pool); how many bytes that were.
    virtual std::size_t give_back_caches() { return 0; }

    /// A stream that does not synchronise with stream 0.
    virtual cudaStream_t create_stream() = 0;
    /// Waits for the stream's work, then destroys it.
    virtual void destroy_stream(cudaStream_t stream) = 0;
    virtual void synchronize(cudaStream_t stream) = 0;
    /// Waits for all streams. While any stream of the device is being captured the driver forbids it, in every mode,
    /// and breaks that capture.
    virtual void synchronize() = 0;
    /// As synchronize(), but leaves what tasks have thrown for the next synchronize of their streams.
    virtual void wait_idle() = 0;
    /// Identifies the stream for as long as the process runs: handles are recycled, ids are not.
    virtual std::uint64_t stream_id(cudaStream_t stream) = 0;

    /// Whether work submitted to the stream now would go into a graph instead of being run (never on the host).
    virtual bool is_capturing(cudaStream_t stream) = 0;

    /// The capture that work submitted to the stream now would go into; none where it is run. Throws where a capture of
    /// another stream forbids the question (the legacy stream).
    virtual BackendCapture capture_of(cudaStream_t stream);
    /// `release(context)` is called once, when neither the graph nor anything instantiated from it exists any more: on
    /// any thread, where it must not call a backend. When this throws, it is not called.
    virtual void retain_by_graph(void* graph, void (*release)(void*), void* context);

    /// From now on no call reaches the driver, which may be gone: what is freed is left as it is, any other call
    /// throws. So objects of static storage may end in any order. Called when the program ends.
    void retire() noexcept { retired_.store(true, std::memory_order_relaxed); }
    bool is_retired() const noexcept { return retired_.load(std::memory_order_relaxed); }
    /// Retires when the program ends: before whatever was there when this is called, so before the driver, when that
    /// has begun to work. The backend is never destroyed.
    void retire_at_exit();

    /// A capture is going to begin, or has ended: see CaptureNotice. The announcement waits for those who are waiting
    /// for all streams.
    void announce_capture() noexcept;
    void end_capture() noexcept;
    /// A capture goes on that was not announced.
    void note_capture() noexcept;
    /// Whether a capture is known to go on, so that nobody may wait for all streams: one that was announced, that a
    /// pool has given memory to, or (on CUDA) of a stream that synchronises with stream 0. The driver tells of no
    /// other. The answer may be another right after it: who is going to wait needs a WaitPermit.
    virtual bool captures_go_on();
    /// Whether a CaptureNotice names a stream of the capture. A question to the driver for each notice.
    bool has_notice_of(const BackendCapture& capture);

    virtual BackendEvent create_event() = 0;
    /// An event that cannot be timed: elapsed_ms throws, record costs less.
    virtual BackendEvent create_untimed_event() = 0;
    virtual void destroy_event(BackendEvent event) noexcept = 0;
    virtual void record(BackendEvent event, cudaStream_t stream) = 0;
    /// Whether the work before the last record is done (true for an event never recorded).
    virtual bool is_complete(BackendEvent event) = 0;
    /// Later work of the stream waits for the event; the caller does not.
    virtual void wait(cudaStream_t stream, BackendEvent event) = 0;
    /// The caller waits for the event.
    virtual void synchronize(BackendEvent event) = 0;
    /// Milliseconds between two completed events.
    virtual float elapsed_ms(BackendEvent begin, BackendEvent end) = 0;

    /// Copies in stream order, in any direction. Host memory should be pinned (`allocate_pinned`), else the
    /// CUDA backend cannot overlap the copy.
    virtual void copy_async(void* to, const void* from, std::size_t bytes, cudaStream_t stream) = 0;
    virtual void fill_async(void* to, unsigned char value, std::size_t bytes, cudaStream_t stream) = 0;
    /// Runs `task` on the host in stream order. It must not call into a backend.
    virtual void host_task(cudaStream_t stream, std::function<void()> task) = 0;
    /// A kernel of the host backend: in stream order, `block(index, processor)` is called once for each index
    /// below `blocks`, from up to processors() threads at once. The CUDA backend throws std::logic_error: there a
    /// kernel is launched by its own launcher.
    virtual void run_blocks(cudaStream_t stream, unsigned blocks,
                            std::function<void(unsigned index, unsigned processor)> block) = 0;

    /// Records what `body` submits to the stream that it is given; none of it runs. On CUDA a graph of a call's price,
    /// whatever is in it; null where nothing is gained by that (the host). What `body` throws comes through, and then
    /// nothing is recorded.
    virtual BackendWork record_work(const std::function<void(cudaStream_t)>& body);
    /// Submits it, all or nothing; it runs behind what is in the stream and behind its own last run. It must have ended
    /// before it is destroyed.
    virtual void submit(BackendWork work, cudaStream_t stream);
    virtual void destroy_work(BackendWork work) noexcept;

    /// Page-locked host memory, 4 KiB aligned (ordinary memory on the host backend).
    virtual void* allocate_pinned(std::size_t bytes) = 0;
    virtual void free_pinned(void* memory) noexcept = 0;

protected:
    Backend();

private:
    friend class CaptureNotice;
    friend class DeviceScope;
    friend class WaitPermit;
    /// Makes a device current on this thread; the one before, or -1 where it was current already.
    virtual int switch_to(int) const noexcept { return -1; }

    /// A child of fork() has none of the threads that it could wait for.
    bool is_forked() const noexcept;

    const unsigned generation_;
    detail::CaptureGate captures_;
    std::mutex notices_mutex_;
    std::vector<cudaStream_t> noticed_streams_;
    std::atomic<bool> retired_{false};
};

/// Makes a backend's device current on this thread while it lives. No driver call where there is one device.
class DeviceScope {
public:
    explicit DeviceScope(const Backend& backend) noexcept
        : backend_(backend), before_(backend.switch_to(backend.device())) {}
    ~DeviceScope() {
        if (before_ >= 0) (void)backend_.switch_to(before_);
    }
    DeviceScope(const DeviceScope&) = delete;
    DeviceScope& operator=(const DeviceScope&) = delete;

private:
    const Backend& backend_;
    const int before_;
};

/// Permission to wait for all streams. It is not given where a capture is known to go on, and while it lives, who
/// announces a capture waits for its end.
class CUDA_ZSTD_API WaitPermit {
public:
    explicit WaitPermit(Backend& backend);
    ~WaitPermit() {
        if (is_given_) backend_.captures_.end_wait();
    }
    WaitPermit(const WaitPermit&) = delete;
    WaitPermit& operator=(const WaitPermit&) = delete;
    explicit operator bool() const noexcept { return is_given_; }

private:
    Backend& backend_;
    bool is_given_;
};

/// While it lives, no pool waits for all streams of the backend: for a program that captures streams which no pool
/// sees, while other threads use pools. What only such a wait would bring to light is left where it is, and other
/// memory is taken. Made before the capture begins, it waits for those who are waiting for all streams.
class CUDA_ZSTD_API CaptureNotice {
public:
    explicit CaptureNotice(Backend& backend) noexcept : backend_(backend) { backend_.announce_capture(); }
    /// For a capture of this stream, which lives as long as the notice. A pool that gives memory to a capture of a bare
    /// handle does not learn of its end before the handle is used again or the graph is gone; here the notice's end is
    /// the capture's. May throw std::bad_alloc.
    CaptureNotice(Backend& backend, cudaStream_t stream);
    ~CaptureNotice();
    CaptureNotice(const CaptureNotice&) = delete;
    CaptureNotice& operator=(const CaptureNotice&) = delete;

private:
    Backend& backend_;
    const std::optional<cudaStream_t> stream_;
};

} // namespace cuda_zstd
