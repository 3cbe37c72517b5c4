// SPDX-License-Identifier: MIT
// Host allocation: what a pair of allocate and deallocate costs that hits the cache, on several threads and among many
// holes, against cudaMallocAsync in the same run. Rows: subject,case,metric,unit,value; values are medians.
#include "cuda_zstd_memory_pool_enhanced.h"

#include <CLI/CLI.hpp>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace {

using cuda_zstd::Backend;
using cuda_zstd::BackendKind;
using cuda_zstd::MemoryPoolManager;
using cuda_zstd::PoolOptions;
using cuda_zstd::Strategy;

constexpr std::size_t KiB = 1024;
constexpr std::size_t MiB = 1024 * KiB;

/// What is measured: a pair of calls on a stream.
struct Subject {
    std::string name;
    std::function<void*(std::size_t bytes, cudaStream_t stream)> allocate;
    std::function<void(void* block, cudaStream_t stream)> deallocate;
};

class Rows {
public:
    explicit Rows(const std::string& path) {
        if (path.empty()) return;
        file_.open(path);
        if (!file_) throw std::runtime_error("cannot write " + path);
        file_ << "subject,case,metric,unit,value\n";
    }
    void add(const std::string& subject, const std::string& name, const std::string& metric, const std::string& unit,
             double value) {
        std::printf("%-18s %-34s %-10s %10.3f %s\n", subject.c_str(), name.c_str(), metric.c_str(), value,
                    unit.c_str());
        if (file_.is_open()) file_ << subject << ',' << name << ',' << metric << ',' << unit << ',' << value << '\n';
    }
    void close() {
        if (!file_.is_open()) return;
        file_.close();
        if (!file_) throw std::runtime_error("the results could not be written");
    }

private:
    std::ofstream file_;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

void check(cudaError_t status, const char* call) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
}

constexpr unsigned rounds = 7;

/// Microseconds a pair on each of `threads` threads at once, each with its stream: the mean of the threads, the median
/// of the rounds.
double pair_us(const Subject& subject, Backend& backend, unsigned threads, std::size_t bytes, unsigned pairs) {
    std::vector<cudaStream_t> streams(threads);
    for (cudaStream_t& stream : streams)
        stream = backend.create_stream();
    // Each thread takes its own time: the one that starts them all may come late to the clock.
    std::vector<std::vector<double>> times(rounds, std::vector<double>(threads));
    std::barrier start(threads);
    std::vector<std::thread> workers;
    for (unsigned t = 0; t < threads; ++t)
        workers.emplace_back([&, t] {
            const auto pair = [&] { subject.deallocate(subject.allocate(bytes, streams[t]), streams[t]); };
            for (unsigned i = 0; i < pairs / 10 + 1; ++i)
                pair();
            for (unsigned round = 0; round < rounds; ++round) {
                start.arrive_and_wait();
                const auto begin = std::chrono::steady_clock::now();
                for (unsigned i = 0; i < pairs; ++i)
                    pair();
                times[round][t] = seconds_since(begin) * 1e6 / pairs;
            }
        });
    for (std::thread& worker : workers)
        worker.join();
    for (const cudaStream_t stream : streams)
        backend.destroy_stream(stream);
    std::vector<double> means;
    for (const std::vector<double>& round : times)
        means.push_back(std::accumulate(round.begin(), round.end(), 0.0) / threads);
    return median(means);
}

/// Allocates `blocks` blocks, frees every second one, and times pairs among the holes.
double among_holes_us(const Subject& subject, unsigned blocks, std::size_t bytes, std::size_t pair_bytes,
                      Backend& backend) {
    const cudaStream_t stream = backend.create_stream();
    std::vector<void*> held;
    for (unsigned i = 0; i < blocks; ++i)
        held.push_back(subject.allocate(bytes, stream));
    for (unsigned i = 0; i < blocks; i += 2)
        subject.deallocate(held[i], stream);
    constexpr unsigned pairs = 2000;
    std::vector<double> times(rounds);
    for (double& time : times) {
        const auto begin = std::chrono::steady_clock::now();
        for (unsigned i = 0; i < pairs; ++i)
            subject.deallocate(subject.allocate(pair_bytes, stream), stream);
        time = seconds_since(begin) * 1e6 / pairs;
    }
    for (unsigned i = 1; i < blocks; i += 2)
        subject.deallocate(held[i], stream);
    backend.synchronize(stream);
    backend.destroy_stream(stream);
    return median(times);
}

std::string size_text(std::size_t bytes) {
    return bytes >= MiB ? std::to_string(bytes / MiB) + "MiB" : std::to_string(bytes / KiB) + "KiB";
}

void run(Backend& backend, Rows& rows, unsigned pairs) {
    std::vector<std::unique_ptr<MemoryPoolManager>> pools;
    std::vector<Subject> subjects;
    for (const Strategy strategy : {Strategy::best_fit, Strategy::first_fit, Strategy::segregated}) {
        PoolOptions options;
        options.strategy = strategy;
        options.backend = backend.kind();
        pools.push_back(std::make_unique<MemoryPoolManager>(options));
        MemoryPoolManager& pool = *pools.back();
        subjects.push_back({std::string("pool ") + to_string(strategy),
                            [&pool](std::size_t bytes, cudaStream_t stream) { return pool.allocate(bytes, stream); },
                            [&pool](void* block, cudaStream_t stream) { pool.deallocate(block, stream); }});
    }
    if (backend.kind() == BackendKind::cuda) {
        cudaMemPool_t driver_pool = nullptr;
        check(cudaDeviceGetDefaultMemPool(&driver_pool, 0), "cudaDeviceGetDefaultMemPool");
        std::uint64_t keep_bytes = UINT64_MAX;
        check(cudaMemPoolSetAttribute(driver_pool, cudaMemPoolAttrReleaseThreshold, &keep_bytes),
              "cudaMemPoolSetAttribute");
        subjects.push_back(
            {"cudaMallocAsync",
             [](std::size_t bytes, cudaStream_t stream) {
                 void* block = nullptr;
                 check(cudaMallocAsync(&block, bytes, stream), "cudaMallocAsync");
                 return block;
             },
             [](void* block, cudaStream_t stream) { check(cudaFreeAsync(block, stream), "cudaFreeAsync"); }});
    }
    for (const Subject& subject : subjects) {
        for (const std::size_t bytes : {4 * KiB, 256 * KiB, 4 * MiB})
            for (const unsigned threads : {1u, 2u, 4u, 8u, 16u})
                rows.add(subject.name, "pair " + size_text(bytes) + " threads " + std::to_string(threads), "pair", "us",
                         pair_us(subject, backend, threads, bytes, pairs));
        for (const unsigned blocks : {32u, 512u, 8192u, 32768u}) {
            constexpr std::size_t bytes = 64 * KiB;
            // Only what the machine has room for, twice over.
            if (2 * blocks * bytes > backend.free_memory_bytes()) continue;
            const std::string holes = "holes " + std::to_string(blocks / 2);
            rows.add(subject.name, holes + " pair fits", "pair", "us",
                     among_holes_us(subject, blocks, bytes, bytes, backend));
            rows.add(subject.name, holes + " pair is larger", "pair", "us",
                     among_holes_us(subject, blocks, bytes, 2 * bytes, backend));
        }
        for (const auto& pool : pools)
            pool->trim();
    }
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("Times the host pool's calls.");
    std::string csv;
    unsigned pairs = 20000;
    app.add_option("--csv", csv, "write the rows to this file");
    app.add_option("--pairs", pairs, "pairs a thread and round")->check(CLI::Range(100u, 10000000u));
    CLI11_PARSE(app, argc, argv);
    try {
        Backend& backend = Backend::get();
        std::printf("%s\n", backend.description().c_str());
        Rows rows(csv);
        run(backend, rows, pairs);
        rows.close();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "host_pool_bench: %s\n", error.what());
        return 1;
    }
    return 0;
}
