// SPDX-License-Identifier: MIT
// MemoryPoolManager's own members: each checks its arguments and hands the call to the parts.
#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"
#include "pool_state.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>

namespace cuda_zstd {
namespace {

constexpr std::size_t default_alignment_bytes = 256;
constexpr std::size_t largest_alignment_bytes = std::size_t{2} << 20;
constexpr std::size_t device_arena_unit_bytes = std::size_t{2} << 20;

[[gnu::always_inline]] inline void require_bytes(std::size_t size, const char* call) {
    if (size == 0)
        throw usage_error(std::string(call) +
                          "(0): a block has at least one byte; a caller with nothing to store needs none");
}

[[gnu::always_inline]] inline void require_alignment(std::size_t alignment) {
    // Not std::has_single_bit: without an instruction for it, it is a call.
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > largest_alignment_bytes)
        throw usage_error("allocate with an alignment of " + std::to_string(alignment) +
                          " bytes: expected a power of two up to " + std::to_string(largest_alignment_bytes));
}

std::string version_text(unsigned version) {
    return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
           std::to_string(version % 100);
}

} // namespace

using detail::ObservedWork;
using detail::watched;
using trace::Call;

unsigned library_version() noexcept { return CUDA_ZSTD_POOL_VERSION; }

namespace {

constexpr std::size_t most_devices = 64;

} // namespace

MemoryPoolManager& MemoryPoolManager::instance_for(unsigned header_version, int device) {
    // Releases of one minor version fit each other.
    if (header_version / 100 != library_version() / 100)
        throw configuration_error("the program was compiled with the headers of version " +
                                  version_text(header_version) + ", but the library is version " +
                                  version_text(library_version()));
    // Never destroyed; the first call decides for a kind of backend.
    static std::array<std::atomic<MemoryPoolManager*>, most_devices> made;
    static const BackendKind kind =
        from_environment(PoolOptions{})
            .backend.value_or(Backend::cuda_available() ? BackendKind::cuda : BackendKind::host);
    if (device == current_device) device = Backend::current_device(kind);
    // Throws where there is no such device.
    const auto index = static_cast<std::size_t>(device);
    if (index >= most_devices) (void)Backend::get(kind, device);
    if (MemoryPoolManager* pool = made[index].load(std::memory_order_acquire)) return *pool;
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    if (MemoryPoolManager* pool = made[index].load(std::memory_order_acquire)) return *pool;
    PoolOptions options = from_environment(PoolOptions{});
    options.backend = kind;
    options.device = device;
    auto pool = std::make_unique<MemoryPoolManager>(options);
    // It is never destroyed, so who wants to know what leaks is told here.
    static bool reports = false;
    if (!reports && pool->state_->observer_.tracks()) {
        std::atexit([] {
            for (const auto& each : made)
                if (const MemoryPoolManager* left = each.load(std::memory_order_acquire))
                    if (!left->state_->is_forked()) left->state_->report_leaks("when the program ends");
        });
        reports = true;
    }
    made[index].store(pool.get(), std::memory_order_release);
    return *pool.release();
}

MemoryPoolManager::MemoryPoolManager(const PoolOptions& options)
    : state_(std::make_unique<State>(validated(options))) {}
MemoryPoolManager::~MemoryPoolManager() {
    // In a child all of it is the parent's: memory, threads, locks.
    if (state_->is_forked()) (void)state_.release();
}

namespace {

using detail::BlockRecord;
using detail::CallDetails;
using detail::Observer;

cudaStream_t handle_of(cudaStream_t stream) noexcept { return stream; }
cudaStream_t handle_of(const RegisteredStream* stream) noexcept { return stream->handle(); }
cudaStream_t named(cudaStream_t stream) noexcept { return stream; }
const RegisteredStream& named(const RegisteredStream* stream) noexcept { return *stream; }

// Whatever names the stream, a call is one of these three: what it does, and what watchers are told of it. `site` is
// where it came from.

struct Allocate {
    template <class State, class Stream>
    static auto run(State& state, std::size_t size, std::size_t alignment, Stream stream) {
        require_bytes(size, "allocate");
        require_alignment(alignment);
        return state.allocate(size, std::max(alignment, default_alignment_bytes),
                              state.any_stream_of(named(stream), "allocate"), state.kind_of(size));
    }
    template <class State, class Stream>
    static CallDetails details(const void* site, State&, std::size_t size, std::size_t alignment, Stream stream) {
        return {Call::allocate, size, alignment, handle_of(stream), nullptr, site};
    }
};

struct TryAllocate {
    template <class State, class Stream>
    static auto run(State& state, std::size_t size, Stream stream) {
        require_bytes(size, "try_allocate");
        return state.allocate(size, default_alignment_bytes, state.any_stream_of(named(stream), "try_allocate"),
                              state.kind_of(size));
    }
    template <class State, class Stream>
    static CallDetails details(const void* site, State&, std::size_t size, Stream stream) {
        return {Call::try_allocate, size, default_alignment_bytes, handle_of(stream), nullptr, site};
    }
};

struct Deallocate {
    template <class State, class Stream>
    static void run(State& state, void* ptr, Stream stream) {
        // The program ends, and the driver and its memory may be gone.
        if (state.backend.is_retired()) [[unlikely]]
            return;
        state.deallocate(ptr, state.any_stream_of(named(stream), "deallocate"), BlockRecord::State::live);
    }
    template <class State, class Stream>
    static CallDetails details(const void*, State&, void* ptr, Stream stream) {
        return {.call = Call::deallocate, .stream = handle_of(stream), .ptr = ptr};
    }
};

template <class State, class Stream>
inline void* allocate_in(State& state, Observer& observer, std::size_t size, std::size_t alignment, Stream stream,
                         const void* site) {
    const auto granted = watched_allocation<Allocate>(observer, site, state, size, alignment, stream);
    if (granted.ptr == nullptr) state.throw_out_of_memory(size);
    return granted.ptr;
}

template <class State, class Stream>
inline void* try_allocate_in(State& state, Observer& observer, std::size_t size, Stream stream, const void* site) {
    return watched_allocation<TryAllocate>(observer, site, state, size, stream).ptr;
}

template <class State, class Stream>
inline void deallocate_in(State& state, Observer& observer, void* ptr, Stream stream) {
    if (ptr != nullptr) watched_free<Deallocate>(observer, state, ptr, stream);
}

} // namespace

void* MemoryPoolManager::allocate(std::size_t size, cudaStream_t stream) {
    return allocate_in(*state_, state_->observer_, size, default_alignment_bytes, stream, __builtin_return_address(0));
}
void* MemoryPoolManager::allocate(std::size_t size, const RegisteredStream& stream) {
    return allocate_in(*state_, state_->observer_, size, default_alignment_bytes, &stream, __builtin_return_address(0));
}
void* MemoryPoolManager::allocate(std::size_t size, std::size_t alignment, cudaStream_t stream) {
    return allocate_in(*state_, state_->observer_, size, alignment, stream, __builtin_return_address(0));
}
void* MemoryPoolManager::allocate(std::size_t size, std::size_t alignment, const RegisteredStream& stream) {
    return allocate_in(*state_, state_->observer_, size, alignment, &stream, __builtin_return_address(0));
}
void* MemoryPoolManager::try_allocate(std::size_t size, cudaStream_t stream) {
    return try_allocate_in(*state_, state_->observer_, size, stream, __builtin_return_address(0));
}
void* MemoryPoolManager::try_allocate(std::size_t size, const RegisteredStream& stream) {
    return try_allocate_in(*state_, state_->observer_, size, &stream, __builtin_return_address(0));
}
void MemoryPoolManager::deallocate(void* ptr, cudaStream_t stream) {
    deallocate_in(*state_, state_->observer_, ptr, stream);
}
void MemoryPoolManager::deallocate(void* ptr, const RegisteredStream& stream) {
    deallocate_in(*state_, state_->observer_, ptr, &stream);
}

void MemoryPoolManager::reset() {
    static const TraceName name("reset", TraceCategory::trim);
    const ObservedWork work(state_->observer_, name, 0);
    watched(state_->observer_, CallDetails{.call = Call::reset}, [&] { state_->reset(); });
}

void MemoryPoolManager::trim() { trim(0); }

void MemoryPoolManager::trim(std::size_t keep_bytes) {
    static const TraceName name("trim", TraceCategory::trim);
    const ObservedWork work(state_->observer_, name, keep_bytes);
    watched(state_->observer_, CallDetails{.call = Call::trim, .bytes = keep_bytes}, [&] { state_->trim(keep_bytes); });
}

void MemoryPoolManager::reserve(std::size_t bytes) {
    static const TraceName name("reserve", TraceCategory::grow);
    const ObservedWork work(state_->observer_, name, bytes);
    watched(state_->observer_, CallDetails{.call = Call::reserve, .bytes = bytes}, [&] { state_->reserve(bytes); });
}

std::size_t MemoryPoolManager::get_allocated_size() const { return state_->allocated_bytes(); }
std::size_t MemoryPoolManager::get_pool_size() const {
    state_->require_own_process();
    return state_->large_.figures().capacity_bytes;
}

void MemoryPoolManager::print_stats(std::FILE* to) const { std::fputs(to_text(statistics()).c_str(), to); }
void MemoryPoolManager::print_stats(std::ostream& to) const { to << to_text(statistics()); }
void MemoryPoolManager::print_allocated_blocks(std::FILE* to) const {
    std::fputs(state_->live_blocks_text().c_str(), to);
}
void MemoryPoolManager::print_allocated_blocks(std::ostream& to) const { to << state_->live_blocks_text(); }

PoolStatistics MemoryPoolManager::statistics() const { return state_->statistics(); }
std::vector<StreamShare> MemoryPoolManager::stream_statistics() const { return state_->stream_statistics(); }
std::vector<PoolBlock> MemoryPoolManager::snapshot() const { return state_->snapshot(); }
void MemoryPoolManager::write_snapshot(std::FILE* to) const { state_->write_snapshot(to); }
const PoolOptions& MemoryPoolManager::options() const noexcept { return state_->options; }
Backend& MemoryPoolManager::backend() const noexcept { return state_->backend; }
int MemoryPoolManager::device() const noexcept { return state_->backend.device(); }

std::size_t MemoryPoolManager::usable_size(const void* ptr) const { return state_->usable_size(ptr); }

void* MemoryPoolManager::allocate_device_arena(std::size_t bytes, cudaStream_t stream) {
    const CallDetails details{Call::allocate_device_arena, bytes, device_arena_unit_bytes, stream, nullptr,
                              __builtin_return_address(0)};
    const auto record = watched(state_->observer_, details, [&] {
        require_bytes(bytes, "allocate_device_arena");
        const std::size_t rounded_bytes = detail::round_up(bytes, device_arena_unit_bytes);
        return state_->allocate(rounded_bytes < bytes ? bytes : rounded_bytes, device_arena_unit_bytes,
                                state_->stream_of(stream, "allocate_device_arena"), PoolKind::device);
    });
    if (record.ptr == nullptr) state_->throw_out_of_memory(bytes);
    return record.ptr;
}

void MemoryPoolManager::release_device_arena(void* memory, cudaStream_t stream) {
    if (memory == nullptr) return;
    const CallDetails details{.call = Call::release_device_arena, .stream = stream, .ptr = memory};
    watched(state_->observer_, details, [&] {
        state_->deallocate(memory, state_->stream_of(stream, "release_device_arena"), BlockRecord::State::device_arena);
    });
}

} // namespace cuda_zstd
