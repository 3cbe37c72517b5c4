// SPDX-License-Identifier: MIT
// How a pool is configured.
// Invariant: options that `validated` has returned hold no contradiction, so no later code checks them again.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/error.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>

namespace cuda_zstd {

class ArenaSource;

/// Which free block serves a request.
enum class Strategy : std::uint8_t {
    /// The smallest that fits. O(log n).
    best_fit,
    /// The one at the lowest address that fits. O(log n).
    first_fit,
    /// The first of the request's size class (two-level segregated fit). O(1).
    segregated,
};

/// How much more is mapped when the pool is exhausted.
enum class Growth : std::uint8_t {
    /// The capacity is multiplied by `growth_factor`.
    geometric,
    /// `growth_step_bytes` more.
    fixed_step,
    /// What the request needs, in chunks of 2 MiB, and only what free chunks elsewhere cannot give: these are unmapped
    /// in exchange. The least memory; more calls of the driver.
    exact,
};

/// What happens when the only free memory still waits for another stream's work. Memory whose work is done is
/// always taken first.
enum class StreamPolicy : std::uint8_t {
    /// Grow while under the limit, else the allocating stream waits on the device.
    grow_then_wait,
    /// The allocating stream waits on the device; the pool grows only when nothing fits.
    wait_then_grow,
};

/// Where arenas come from.
enum class SourceKind : std::uint8_t {
    /// CUDA virtual memory on the CUDA backend (`cuda_malloc` where the device has none, and where compute-sanitizer
    /// checks the program with NVTX), else ordinary memory.
    automatic,
    /// Reserves a range of addresses, maps physical chunks as it grows, unmaps them in trim.
    cuda_virtual,
    /// Each growth is a further arena.
    cuda_malloc,
    /// The same of managed memory (cudaMallocManaged): more than the device has, reachable from the host.
    cuda_managed,
    /// The same of page-locked host memory that the device can reach (cudaHostAlloc).
    cuda_pinned,
    /// Ordinary memory; also usable with the CUDA backend where the device reads pageable memory.
    ordinary,
};

/// Options of a MemoryPoolManager. The defaults are those of the guide.
struct PoolOptions {
    /// Most bytes that may be mapped; 0: no limit but the machine's. At least 2 MiB, used in whole 2 MiB.
    std::size_t max_bytes = 0;
    /// Mapped when the pool is made. At most max_bytes.
    std::size_t initial_bytes = 0;
    Growth growth = Growth::geometric;
    /// From 1.0 (exactly what is needed) to 16.0.
    double growth_factor = 2.0;
    /// For Growth::fixed_step.
    std::size_t growth_step_bytes = std::size_t{64} << 20;
    Strategy strategy = Strategy::best_fit;
    StreamPolicy stream_policy = StreamPolicy::grow_then_wait;
    /// Requests below this are small (256 B to 256 KiB), those up to `medium_limit_bytes` medium, the others large.
    std::size_t small_limit_bytes = std::size_t{64} << 10;
    /// From small_limit_bytes to 8 MiB.
    std::size_t medium_limit_bytes = std::size_t{1} << 20;
    SourceKind source = SourceKind::automatic;
    /// A source of the caller's; takes the place of `source`.
    std::shared_ptr<ArenaSource> custom_source;
    /// Called where there is no memory, after pending frees were waited for and the other pools of the process were
    /// trimmed: with the bytes that are asked for, by the thread that asks, with no lock held. It may free blocks of
    /// this pool. True: try again.
    std::function<bool(std::size_t bytes)> on_out_of_memory;
    /// None: what `Backend::get()` gives.
    std::optional<BackendKind> backend;
    /// The device by its index; none: the one that is current when the pool is made.
    std::optional<int> device;
    /// A backend of the caller's, which must outlive the pool and must not call it; takes the place of `backend`.
    Backend* custom_backend = nullptr;
    /// Where leaks and invalidated blocks are reported; null: nowhere.
    std::FILE* diagnostics = stderr;
};

/// The options, checked. Throws `configuration_error` that names the option, its value and what is allowed.
CUDA_ZSTD_API PoolOptions validated(const PoolOptions& options);

/// `options` with what the environment sets: CUDA_ZSTD_POOL_MAX_SIZE and CUDA_ZSTD_POOL_INITIAL_SIZE (bytes),
/// CUDA_ZSTD_POOL_GROWTH_FACTOR (1.0 to 16.0), CUDA_ZSTD_POOL_STRATEGY (best-fit, first-fit, segregated),
/// CUDA_ZSTD_POOL_BACKEND (auto, cuda, host). Throws `configuration_error` that names the variable, its value and
/// what is allowed.
CUDA_ZSTD_API PoolOptions from_environment(const PoolOptions& options);

/// "best-fit", "first-fit" or "segregated".
CUDA_ZSTD_API const char* to_string(Strategy strategy) noexcept;
/// What CUDA_ZSTD_POOL_BACKEND asks for; none for `auto` and where it is not set. Throws `configuration_error`.
CUDA_ZSTD_API std::optional<BackendKind> backend_from_environment();

} // namespace cuda_zstd
