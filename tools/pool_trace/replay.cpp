// SPDX-License-Identifier: MIT
#include "replay.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <map>
#include <stdexcept>
#include <unordered_map>

namespace pool_trace {

using namespace cuda_zstd;

namespace {

/// Streams of the replay for those of the trace.
class Streams {
public:
    explicit Streams(Backend& backend) : backend_(backend) {}
    ~Streams() {
        for (const auto& [id, stream] : streams_)
            backend_.destroy_stream(stream);
    }
    Streams(const Streams&) = delete;
    Streams& operator=(const Streams&) = delete;

    cudaStream_t of(std::uint64_t id) {
        const auto [place, fresh] = streams_.try_emplace(id, nullptr);
        if (fresh) place->second = backend_.create_stream();
        return place->second;
    }

private:
    Backend& backend_;
    std::map<std::uint64_t, cudaStream_t> streams_;
};

/// Counts and times what is the same for every subject.
class Meter {
public:
    explicit Meter(ReplayResult& result) : result_(result) {}
    template <class Call>
    void* allocate(const Event& event, Call&& call) {
        const auto begin = std::chrono::steady_clock::now();
        void* const block = call();
        took(begin);
        ++result_.allocations;
        if (block == nullptr) {
            ++result_.failures;
            return nullptr;
        }
        blocks_[event.pointer] = {block, event.bytes};
        live_bytes_ += event.bytes;
        result_.peak_live_bytes = std::max(result_.peak_live_bytes, live_bytes_);
        return block;
    }
    template <class Call>
    void free(const Event& event, Call&& call) {
        const auto found = blocks_.find(event.pointer);
        if (found == blocks_.end()) return;
        const auto begin = std::chrono::steady_clock::now();
        call(found->second.first);
        took(begin);
        live_bytes_ -= found->second.second;
        blocks_.erase(found);
    }
    template <class Call>
    void free_all(Call&& call) {
        for (const auto& [pointer, block] : blocks_)
            call(block.first);
        forget();
    }
    void forget() {
        blocks_.clear();
        live_bytes_ = 0;
    }
    void close() {
        if (calls_ != 0) result_.call_ns = static_cast<double>(spent_.count()) / static_cast<double>(calls_);
    }

private:
    void took(std::chrono::steady_clock::time_point begin) {
        spent_ += std::chrono::steady_clock::now() - begin;
        ++calls_;
    }

    ReplayResult& result_;
    std::unordered_map<std::uint64_t, std::pair<void*, std::uint64_t>> blocks_;
    std::uint64_t live_bytes_ = 0;
    std::chrono::steady_clock::duration spent_{};
    std::uint64_t calls_ = 0;
};

bool device_arena(const Event& event) {
    return event.call == Call::allocate_device_arena || event.call == Call::release_device_arena;
}

void check(cudaError_t status, const char* call) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
}

} // namespace

std::vector<Event> events_of(const Trace& trace, std::uint32_t pool) {
    std::vector<Event> events;
    std::copy_if(trace.events.begin(), trace.events.end(), std::back_inserter(events),
                 [&](const Event& event) { return event.pool == pool; });
    return events;
}

std::uint32_t busiest_pool(const Trace& trace) {
    std::map<std::uint32_t, std::size_t> counts;
    for (const Event& event : trace.events)
        ++counts[event.pool];
    const auto most = std::max_element(counts.begin(), counts.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    return most == counts.end() ? 0 : most->first;
}

ReplayResult replay(const std::vector<Event>& events, const PoolOptions& options) {
    ReplayResult result;
    PoolOptions quiet = options;
    quiet.diagnostics = nullptr;
    MemoryPoolManager pool(quiet);
    Streams streams(pool.backend());
    Meter meter(result);
    std::uint64_t seen_peak_bytes = 0;
    for (const Event& event : events) {
        if (!succeeded(event.outcome)) continue;
        if (is_allocation(event.call)) {
            const cudaStream_t stream = streams.of(event.stream);
            meter.allocate(event, [&]() -> void* {
                try {
                    return device_arena(event) ? pool.allocate_device_arena(event.bytes, stream)
                                               : pool.allocate(event.bytes, event.alignment, stream);
                } catch (const out_of_memory&) {
                    return nullptr;
                }
            });
            if (result.peak_live_bytes > seen_peak_bytes + seen_peak_bytes / 64) {
                seen_peak_bytes = result.peak_live_bytes;
                result.fragmentation_at_peak = pool.statistics().fragmentation();
            }
        } else if (is_free(event.call)) {
            const cudaStream_t stream = streams.of(event.stream);
            meter.free(event, [&](void* block) {
                device_arena(event) ? pool.release_device_arena(block, stream) : pool.deallocate(block, stream);
            });
        } else if (event.call == Call::reset) {
            pool.reset();
            meter.forget();
        } else if (event.call == Call::trim) {
            pool.trim(event.bytes);
        } else if (event.call == Call::reserve) {
            try {
                pool.reserve(event.bytes);
            } catch (const out_of_memory&) {
                // What it would have served fails by itself.
            }
        }
    }
    const PoolStatistics statistics = pool.statistics();
    for (const PoolShare& share : statistics.pools)
        result.hits += share.hits;
    result.peak_mapped_bytes = statistics.peak_capacity_bytes;
    result.growths = statistics.growths;
    result.returns = statistics.returns;
    result.device_waits = statistics.device_waits;
    // What the trace leaves live must not be listed as leaks of this program.
    meter.free_all([&](void*) {});
    meter.close();
    return result;
}

ReplayResult replay_cuda(const std::vector<Event>& events, Subject subject) {
    if (!Backend::cuda_available()) throw std::runtime_error("no CUDA device answers: replay against --subject pool");
    Backend& backend = Backend::get(BackendKind::cuda);
    ReplayResult result;
    Meter meter(result);
    Streams streams(backend);
    const auto release = [&](void* block, cudaStream_t stream) {
        check(subject == Subject::cuda_malloc ? cudaFree(block) : cudaFreeAsync(block, stream), "free");
    };
    for (const Event& event : events) {
        if (!succeeded(event.outcome)) continue;
        const cudaStream_t stream = streams.of(event.stream);
        if (is_allocation(event.call))
            meter.allocate(event, [&]() -> void* {
                void* block = nullptr;
                const cudaError_t status = subject == Subject::cuda_malloc
                                               ? cudaMalloc(&block, event.bytes)
                                               : cudaMallocAsync(&block, event.bytes, stream);
                if (status == cudaErrorMemoryAllocation) {
                    (void)cudaGetLastError();
                    return nullptr;
                }
                check(status, "allocate");
                return block;
            });
        else if (is_free(event.call))
            meter.free(event, [&](void* block) { release(block, stream); });
        else if (event.call == Call::reset)
            meter.free_all([&](void* block) { release(block, nullptr); });
    }
    meter.free_all([&](void* block) { release(block, nullptr); });
    meter.close();
    if (subject == Subject::cuda_malloc_async) {
        int device = 0;
        cudaMemPool_t memory{};
        check(cudaGetDevice(&device), "cudaGetDevice");
        check(cudaDeviceGetDefaultMemPool(&memory, device), "cudaDeviceGetDefaultMemPool");
        check(cudaMemPoolGetAttribute(memory, cudaMemPoolAttrReservedMemHigh, &result.peak_mapped_bytes),
              "cudaMemPoolGetAttribute");
    }
    return result;
}

} // namespace pool_trace
