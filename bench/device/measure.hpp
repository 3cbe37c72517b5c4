// SPDX-License-Identifier: MIT
// How the benchmark measures: events around one launch, kernels in a graph, memory, rows, the limits of a cell.
//
// Invariant: an error of the CUDA runtime ends the process (exit code 1), and with it the cell under way, since after
// one nothing that the device answers can be relied on.
#pragma once

#include "contents.hpp"
#include "figures.hpp"

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bench {

inline void check(cudaError_t error, const char* call) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "device_bench: %s failed: %s\n", call, cudaGetErrorString(error));
    std::exit(1);
}

/// An array of device memory.
template <class T>
class DeviceArray {
public:
    explicit DeviceArray(std::size_t count) { check(cudaMalloc(&data_, count * sizeof(T)), "cudaMalloc"); }
    ~DeviceArray() { cudaFree(data_); }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;
    T* get() const { return data_; }

private:
    T* data_ = nullptr;
};

/// One object in pinned memory, which kernels write and the host reads once they are done.
template <class T>
class Pinned {
public:
    Pinned() {
        check(cudaMallocHost(&data_, sizeof(T)), "cudaMallocHost");
        *data_ = T{};
    }
    ~Pinned() { cudaFreeHost(data_); }
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;
    T* get() const { return data_; }
    T& operator*() const { return *data_; }

private:
    T* data_ = nullptr;
};

/// Events around one launch on stream 0; microseconds.
class Timer {
public:
    Timer() {
        check(cudaEventCreate(&begin_), "cudaEventCreate");
        check(cudaEventCreate(&end_), "cudaEventCreate");
    }
    ~Timer() {
        cudaEventDestroy(begin_);
        cudaEventDestroy(end_);
    }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    template <class Launch>
    double time_us(const Launch& launch) {
        check(cudaDeviceSynchronize(), "the work before a timed launch");
        check(cudaEventRecord(begin_), "cudaEventRecord");
        launch();
        check(cudaGetLastError(), "a timed launch");
        check(cudaEventRecord(end_), "cudaEventRecord");
        check(cudaEventSynchronize(end_), "a timed launch");
        float ms = 0;
        check(cudaEventElapsedTime(&ms, begin_, end_), "cudaEventElapsedTime");
        return ms * 1000.0;
    }

private:
    cudaEvent_t begin_{}, end_{};
};

/// Medians, in microseconds, of the two kernels of a pair that a graph replays.
struct GraphTimes {
    double first_us;
    double second_us;
};

/// Records ten pairs into a graph, with events that the graph itself records around each kernel, and replays it three
/// times, of which the first warms up. `launch(stream)` are the kernels, `between(stream)` what follows a pair,
/// untimed. Nothing where the runtime cannot do it.
template <class First, class Second, class Between>
std::optional<GraphTimes> time_graph(const First& first, const Second& second, const Between& between) {
    constexpr unsigned pairs = 10, replays = 2;
    cudaStream_t stream{};
    cudaGraph_t graph{};
    cudaGraphExec_t exec{};
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    std::vector<cudaEvent_t> events(4 * pairs);
    for (cudaEvent_t& event : events)
        check(cudaEventCreate(&event), "cudaEventCreate");
    auto record = [&](unsigned index) {
        return cudaEventRecordWithFlags(events[index], stream, cudaEventRecordExternal) == cudaSuccess;
    };
    bool good = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
    for (unsigned pair = 0; good && pair < pairs; ++pair) {
        good = record(4 * pair);
        first(stream);
        good = good && record(4 * pair + 1) && record(4 * pair + 2);
        second(stream);
        good = good && record(4 * pair + 3);
        between(stream);
    }
    good = cudaStreamEndCapture(stream, &graph) == cudaSuccess && good;
    good = good && cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess;
    std::vector<double> first_us, second_us;
    for (unsigned replay = 0; good && replay <= replays; ++replay) {
        good = cudaGraphLaunch(exec, stream) == cudaSuccess;
        check(cudaStreamSynchronize(stream), "the replay of a graph");
        for (unsigned pair = 0; good && replay != 0 && pair < pairs; ++pair) {
            float ms[2] = {0, 0};
            for (unsigned half = 0; half < 2; ++half)
                good = good && cudaEventElapsedTime(&ms[half], events[4 * pair + 2 * half],
                                                    events[4 * pair + 2 * half + 1]) == cudaSuccess;
            first_us.push_back(ms[0] * 1000.0);
            second_us.push_back(ms[1] * 1000.0);
        }
    }
    if (exec != nullptr) cudaGraphExecDestroy(exec);
    if (graph != nullptr) cudaGraphDestroy(graph);
    for (const cudaEvent_t event : events)
        cudaEventDestroy(event);
    cudaStreamDestroy(stream);
    if (good) return GraphTimes{median(first_us), median(second_us)};
    std::fprintf(stderr, "device_bench: no graph: %s\n", cudaGetErrorString(cudaGetLastError()));
    return std::nullopt;
}

/// A cell while it runs: how often it measures, and where its rows go.
class Cell {
public:
    Cell(std::string subject, std::string name, unsigned iterations, double limit_seconds)
        : subject_(std::move(subject)), name_(std::move(name)), iterations_(iterations),
          enough_(Clock::now() +
                  std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limit_seconds / 2))) {}

    /// Iterations to be timed; one more, before them, warms up.
    unsigned iterations() const { return iterations_; }
    /// Whether iteration `done` is the last one: all are done, or half of the cell's time is over.
    bool is_last(unsigned done) const { return done >= iterations_ || (done >= 1 && Clock::now() > enough_); }

    void row(const char* metric, const char* unit, double value) const {
        std::printf("%s\n", bench::row(subject_, name_, metric, unit, value).c_str());
        std::fflush(stdout);
    }
    /// Says why the cell failed.
    bool fail(const std::string& reason) const {
        std::fprintf(stderr, "device_bench: %s %s: %s\n", subject_.c_str(), name_.c_str(), reason.c_str());
        return false;
    }
    /// Whether all blocks are there and hold what was written.
    bool holds(const Faults& faults) const {
        if (faults.missing == 0 && faults.wrong_bytes == 0) return true;
        return fail(std::to_string(faults.missing) + " blocks missing, " + std::to_string(faults.wrong_bytes) +
                    " words overwritten");
    }

private:
    using Clock = std::chrono::steady_clock;
    std::string subject_, name_;
    unsigned iterations_;
    Clock::time_point enough_;
};

} // namespace bench
