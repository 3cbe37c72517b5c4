// SPDX-License-Identifier: MIT
// The one seam between a pool and whoever watches it.
//
// Invariant: with nothing switched on, a call into the pool pays one load and one branch for this
// (`watches_calls`); built with CUDA_ZSTD_POOL_OBSERVE=0 it pays nothing. A free is told before its block can reach
// another thread, an allocation after its block is the caller's, so what is told of an address never overlaps.
#pragma once

#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/live_table.hpp"
#include "cuda_zstd/host/trace_format.hpp"
#include "trace_writer.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
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

/// What one pool's watchers have switched on, from the environment when the pool was made.
class Observer {
public:
    /// `mapped_bytes` tells the pool's capacity; it is asked behind calls that may have changed it.
    Observer(const PoolOptions& options, Backend& backend, std::function<std::size_t()> mapped_bytes);
    ~Observer();
    Observer(const Observer&) = delete;
    Observer& operator=(const Observer&) = delete;

    bool watches_calls() const noexcept {
#if CUDA_ZSTD_POOL_OBSERVE
        return watches_calls_;
#else
        return false;
#endif
    }

private:
    friend class ObservedCall;
    void trace_capacity(std::uint64_t now) noexcept;

    bool watches_calls_ = false;
    Backend& backend_;
    const std::function<std::size_t()> mapped_bytes_;
    TraceWriter* writer_ = nullptr;
    std::uint32_t pool_ = 0;
    std::atomic<std::size_t> last_mapped_bytes_{0};
};

/// One call that is watched, from its begin to its end.
class ObservedCall {
public:
    ObservedCall(Observer& observer, const CallDetails& details) noexcept;
    ObservedCall(const ObservedCall&) = delete;
    ObservedCall& operator=(const ObservedCall&) = delete;

    /// An allocation; out of memory where it has no address.
    void allocated(const LiveRecord& record) noexcept;
    /// A free, on the stream of this id.
    void freed(std::uint64_t stream_id) noexcept;
    void done() noexcept;
    /// By an exception.
    void failed(trace::Outcome outcome) noexcept;

private:
    void end(trace::Outcome outcome, std::uint64_t stream_id, const void* ptr) noexcept;

    Observer& observer_;
    const CallDetails details_;
    std::uint64_t begin_ticks_ = 0;
};

/// Runs a call's `body` and tells the observer how it went. `body` returns a LiveRecord, the id of a free's stream, or
/// nothing.
template <class Body>
[[gnu::noinline, gnu::cold]] auto observed(Observer& observer, const CallDetails& details, Body&& body) {
    ObservedCall call(observer, details);
    try {
        using Result = std::invoke_result_t<Body&>;
        if constexpr (std::is_void_v<Result>) {
            body();
            call.done();
        } else {
            Result result = body();
            if constexpr (std::is_same_v<Result, LiveRecord>)
                call.allocated(result);
            else
                call.freed(result);
            return result;
        }
    } catch (const out_of_memory&) {
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

} // namespace cuda_zstd::detail
