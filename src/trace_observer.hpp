// SPDX-License-Identifier: MIT
// The one seam between a pool and whoever watches it.
//
// Invariant: with nothing switched on, a call into the pool pays one load and one branch for this (`watch`); built with
// CUDA_ZSTD_POOL_OBSERVE=0 it pays nothing. A free is told before its block can reach another thread, an allocation
// after its block is the caller's, so what is told of an address never overlaps.
#pragma once

#include "cuda_zstd/host/arena_source.hpp"
#include "cuda_zstd/host/block_heap.hpp"
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"
#include "cuda_zstd/host/trace_format.hpp"
#include "trace_nvtx.hpp"
#include "trace_sites.hpp"
#include "trace_writer.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#ifndef CUDA_ZSTD_POOL_OBSERVE
#define CUDA_ZSTD_POOL_OBSERVE 1
#endif

namespace cuda_zstd::detail {

/// A call as its caller made it.
struct CallDetails {
    trace::Call call = trace::Call::allocate;
    std::size_t bytes = 0;
    std::size_t alignment = 256;
    cudaStream_t stream = nullptr;
    const void* ptr = nullptr;
    /// Where the call came from: a return address.
    const void* site = nullptr;
};

/// How closely a pool's calls are watched.
enum class Watch : std::uint8_t {
    none,
    /// Sampled addresses only.
    sample,
    every_call,
};

/// What one pool's watchers have switched on, from the environment when the pool was made.
class Observer {
public:
    /// `figures` is asked behind calls that may have changed it. It may lock an arena, but no more.
    Observer(const PoolOptions& options, Backend& backend, std::function<TraceFigures()> figures);
    ~Observer();
    Observer(const Observer&) = delete;
    Observer& operator=(const Observer&) = delete;

    Watch watch() const noexcept {
#if CUDA_ZSTD_POOL_OBSERVE
        return watch_.load(std::memory_order_relaxed);
#else
        return Watch::none;
#endif
    }

    /// The source that the arenas are to use.
    std::shared_ptr<ArenaSource> source(std::shared_ptr<ArenaSource> source);
    /// A call of the running thread found its block elsewhere than in its own pool. The last word counts.
    static void found_in(Origin origin) noexcept;
    void out_of_memory(std::size_t bytes, std::uint64_t stream_id) const noexcept;
    /// By the thread that is alone in the pool: all blocks are gone.
    void was_reset() noexcept;
    /// Where a live block was allocated, in lines, as far as it is tracked.
    std::string site_of(const void* ptr) const { return sites_ ? sites_->describe(ptr) : std::string(); }
    bool tracks() const noexcept { return sites_.has_value(); }
    /// A block at a sampled address; null is one.
    void allocated_sampled(const void* ptr, const void* site) noexcept;
    CallSites& sites() noexcept { return *sites_; }
    const CallSites& sites() const noexcept { return *sites_; }
    std::uint32_t number() const noexcept { return number_; }

private:
    friend class ObservedCall;
    friend class ObservedWork;
    Watch wanted_watch() const noexcept;
    void trace_capacity() noexcept;
    void sample_counters() const noexcept { counters_.sample(figures_()); }
    std::uint64_t id_of(cudaStream_t stream) const noexcept;
    void finish_accesses(cudaStream_t stream) const noexcept;

    std::atomic<Watch> watch_{Watch::none};
    bool nvtx_ = false;
    /// Tools that check memory may be told of arenas; whether one listens, the first arena tells.
    bool tells_heaps_ = false;
    bool fine_ = false;
    TrackMode track_ = TrackMode::off;
    Backend& backend_;
    const std::function<TraceFigures()> figures_;
    const std::uint32_t number_;
    TraceCounters counters_;
    NvtxHeaps heaps_;
    std::optional<CallSites> sites_;
    TraceWriter* writer_ = nullptr;
    std::atomic<std::size_t> last_mapped_bytes_{0};
};

/// Work that is no hit: a range in coarse and fine mode, with the counters behind it.
class ObservedWork {
public:
    ObservedWork(const Observer& observer, const TraceName& name, std::size_t bytes,
                 std::uint64_t stream_id = 0) noexcept;
    ~ObservedWork();
    ObservedWork(const ObservedWork&) = delete;
    ObservedWork& operator=(const ObservedWork&) = delete;

private:
    const Observer& observer_;
    std::optional<TraceRange> range_;
};

/// One call that is watched, from its begin to its end.
class ObservedCall {
public:
    ObservedCall(Observer& observer, const CallDetails& details) noexcept;
    ObservedCall(const ObservedCall&) = delete;
    ObservedCall& operator=(const ObservedCall&) = delete;
    ~ObservedCall();

    /// An allocation's block; null where there was no memory.
    void allocated(const void* ptr) noexcept;
    void done() noexcept { end(trace::Outcome::done, details_.ptr); }
    /// By an exception.
    void failed(trace::Outcome outcome) noexcept;

private:
    void end(trace::Outcome outcome, const void* ptr) noexcept;
    void told_free() noexcept;

    Observer& observer_;
    const CallDetails details_;
    /// Of an allocation or a free.
    const bool names_stream_;
    const std::uint64_t stream_id_;
    std::uint64_t begin_ticks_ = 0;
    CallSite freed_site_;
    /// Bytes of the region that was the block's; 0: none.
    std::size_t was_region_ = 0;
    std::optional<TraceRange> range_;
};

/// Runs a call's `body`, watched closely. `body` returns a block's address as `ptr` of what it returns, or nothing.
template <class Body>
[[gnu::noinline, gnu::cold]] auto observed(Observer& observer, const CallDetails& details, const Body& body) {
    ObservedCall call(observer, details);
    try {
        if constexpr (std::is_void_v<decltype(body())>) {
            body();
            call.done();
        } else {
            auto result = body();
            call.allocated(result.ptr);
            return result;
        }
    } catch (const cuda_zstd::out_of_memory&) {
        call.failed(trace::Outcome::out_of_memory);
        throw;
    } catch (const usage_error&) {
        call.failed(trace::Outcome::refused);
        throw;
    } catch (...) {
        call.failed(trace::Outcome::failed);
        throw;
    }
}

/// Runs a call that is not a fast one, with its `body`, watched as closely as somebody wants.
template <class Body>
inline auto watched(Observer& observer, const CallDetails& details, const Body& body) {
    return observer.watch() == Watch::none ? body() : observed(observer, details, body);
}

// A fast call is a type with `run`, what it does, and `details`, what watchers are told; both take the call's own
// arguments. These go on by value, so that a call that nobody watches keeps them in registers.

template <class Call, class... Arguments>
[[gnu::noinline, gnu::cold]] auto observed_call(Observer& observer, const void* site, auto& state,
                                                Arguments... arguments) {
    return observed(observer, Call::details(site, state, arguments...), [&] { return Call::run(state, arguments...); });
}

template <class Call, class... Arguments>
inline auto watched_allocation(Observer& observer, const void* site, auto& state, Arguments... arguments) {
    if (const Watch watch = observer.watch(); watch != Watch::none) [[unlikely]] {
        if (watch == Watch::every_call) return observed_call<Call>(observer, site, state, arguments...);
        const auto granted = Call::run(state, arguments...);
        if (CallSites::is_sampled(granted.ptr)) [[unlikely]]
            observer.allocated_sampled(granted.ptr, site);
        return granted;
    }
    return Call::run(state, arguments...);
}

/// The free of a block whose site may be known.
template <class Call, class... Arguments>
[[gnu::noinline, gnu::cold]] void freed_sampled(Observer& observer, auto& state, void* ptr, Arguments... arguments) {
    const CallSite site = observer.sites().take(ptr);
    try {
        Call::run(state, ptr, arguments...);
    } catch (...) {
        // Nothing was freed.
        if (site.frames[0] != nullptr) observer.sites().add(ptr, site);
        throw;
    }
}

template <class Call, class... Arguments>
inline void watched_free(Observer& observer, auto& state, void* ptr, Arguments... arguments) {
    if (const Watch watch = observer.watch(); watch != Watch::none) [[unlikely]] {
        if (watch == Watch::every_call) return observed_call<Call>(observer, nullptr, state, ptr, arguments...);
        if (CallSites::is_sampled(ptr)) [[unlikely]]
            return freed_sampled<Call>(observer, state, ptr, arguments...);
    }
    Call::run(state, ptr, arguments...);
}

} // namespace cuda_zstd::detail
