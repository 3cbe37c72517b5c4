// SPDX-License-Identifier: MIT
#include "pool_state.hpp"

#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"
#include "pool_registry.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace cuda_zstd {

using namespace detail;

namespace {

Backend& backend_for(const PoolOptions& options) {
    if (options.custom_backend != nullptr) return *options.custom_backend;
    const BackendKind kind = options.backend ? *options.backend : Backend::get().kind();
    return options.device ? Backend::get(kind, *options.device) : Backend::get(kind);
}

std::shared_ptr<ArenaSource> source_on(Backend& backend, const PoolOptions& options) {
    const DeviceScope device(backend);
    return source_for(options, backend.kind());
}

constexpr auto relaxed = std::memory_order_relaxed;

} // namespace

/// A thread keeps little of a small pool, and not much of any.
std::size_t most_cached_bytes(std::size_t most_bytes) { return std::min(most_bytes / 32, std::size_t{64} << 20); }

MemoryPoolManager::State::State(const PoolOptions& checked)
    : options(checked), backend(backend_for(checked)), observer_(checked, backend, [this] { return figures(); }),
      order_(backend), large_(checked, order_, observer_.source(source_on(backend, checked))),
      medium_(checked.strategy, order_, large_),
      small_(checked.small_limit_bytes, order_, pool_of_medium(), slabs_,
             checked.growth == Growth::exact ? SlabSize::smallest : SlabSize::usual),
      graphs_(backend, large_), live_(slabs_),
      caches_(most_cached_bytes(large_.most_bytes()), [this](ThreadCache& cache) { leave(cache); }) {
    // Where as little as possible is to be mapped, fragments count for more than nanoseconds.
    if (options.growth == Growth::exact) caches_.shared.most_passing = 0;
    PoolRegistry::get().enter(
        {this, &backend, [this] { return give_back(); }, [this](const void* ptr) { return known_as(ptr); }});
}

MemoryPoolManager::State::~State() {
    PoolRegistry::get().leave(this);
    caches_.disconnect();
    try {
        // What tasks have thrown is for their own stream's next synchronize, not for a pool that ends beside them.
        if (!backend.is_retired()) {
            const WaitPermit keeps_captures_away(backend);
            backend.wait_idle();
        }
    } catch (const std::exception& error) {
        if (options.diagnostics != nullptr)
            std::fprintf(options.diagnostics, "cuda_zstd: waiting for the last work failed: %s\n", error.what());
    }
    report_leaks("when the pool ends");
    graphs_.reclaim();
    if (const GraphFigures held = graphs_.figures(); held.graphs != 0 && options.diagnostics != nullptr)
        std::fprintf(options.diagnostics, "cuda_zstd: %zu graphs still have %zu bytes of a pool that ends\n",
                     held.graphs, held.bytes);
    // Tickets go before the order that made them, memory last.
    small_.clear();
    medium_.clear();
    large_.reset();
}

void MemoryPoolManager::State::report_leaks(const char* when) const {
    if (const std::size_t bytes = allocated_bytes(); bytes != 0 && options.diagnostics != nullptr)
        std::fprintf(options.diagnostics, "cuda_zstd: %zu bytes still allocated %s\n%s", bytes, when,
                     live_blocks_text().c_str());
}

/// Brings everything that is free back to the arenas, with no work left in it.
void MemoryPoolManager::State::drain() {
    host_waits_.fetch_add(1, relaxed);
    collect();
    close_open();
    order_.wait_on_host(stranded_pending());
    collect_stranded();
    small_.wait_on_host();
    small_.flush();
    medium_.wait_on_host();
    medium_.flush();
    large_.wait_on_host();
}

void MemoryPoolManager::State::reset() {
    require_own_process();
    require_driver();
    const Alone alone(*this);
    // A pool that grows has memory of its own and counts here alone.
    if (const std::size_t pools = std::max<std::size_t>(device_pools_.load(relaxed), device_arenas.count()); pools != 0)
        throw usage_error("reset() while " + std::to_string(pools) +
                          (pools == 1 ? " device pool lives" : " device pools live") +
                          " in the arenas: destroy first what uses them");
    graphs_.reclaim();
    if (const std::size_t graphs = graphs_.figures().graphs; graphs != 0)
        throw usage_error("reset() while " + std::to_string(graphs) + (graphs == 1 ? " graph has" : " graphs have") +
                          " memory of the pool: destroy first what was captured and instantiated");
    const WaitPermit permit(backend);
    if (!permit)
        throw usage_error("reset() while a stream is being captured into a graph: it waits for all streams, which the "
                          "driver forbids meanwhile");
    backend.wait_idle();
    std::int64_t bytes = 0;
    alone.caches.for_each([&](ThreadCache& cache) {
        const std::lock_guard lock(cache.lock());
        bytes += cache.tally.live_bytes;
        cache.forget_blocks();
        cache.tally.forget_live(caches_.shared.published);
    });
    stranded_ = {};
    const std::size_t blocks = live_.invalidate_all();
    observer_.was_reset();
    small_.clear();
    medium_.clear();
    large_.reset();
    resets_.fetch_add(1, relaxed);
    reset_invalidated_.store(blocks, relaxed);
    total_invalidated_.fetch_add(blocks, relaxed);
    if (blocks != 0 && options.diagnostics != nullptr)
        std::fprintf(options.diagnostics, "cuda_zstd: reset() invalidates %zu live blocks (%lld bytes)\n", blocks,
                     static_cast<long long>(bytes));
}

void MemoryPoolManager::State::trim(std::size_t keep_bytes) {
    require_own_process();
    require_driver();
    const Turnstile::Passage passage(turnstile_);
    device_arenas.launch_frees();
    graphs_.reclaim();
    drain();
    large_.trim(keep_bytes);
}

/// For another pool, which finds no memory: how many bytes went back to the source.
std::size_t MemoryPoolManager::State::give_back() noexcept {
    if (is_forked()) return 0; // the parent's pool: its locks may be held by threads that are not here
    const std::size_t before_bytes = large_.figures().capacity_bytes;
    try {
        trim(0);
    } catch (const std::exception& error) {
        if (options.diagnostics != nullptr)
            std::fprintf(options.diagnostics, "cuda_zstd: a pool that another one asks for memory: %s\n", error.what());
    }
    const std::size_t after_bytes = large_.figures().capacity_bytes;
    return before_bytes - std::min(before_bytes, after_bytes);
}

void MemoryPoolManager::State::reserve(std::size_t bytes) {
    require_own_process();
    require_driver();
    const Turnstile::Passage passage(turnstile_);
    large_.reserve(bytes);
}

TraceFigures MemoryPoolManager::State::figures() const {
    const ArenaFigures arenas = large_.figures();
    return {allocated_bytes(), arenas.capacity_bytes, arenas.free.bytes, arenas.free.largest_bytes};
}

} // namespace cuda_zstd
