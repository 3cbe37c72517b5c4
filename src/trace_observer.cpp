// SPDX-License-Identifier: MIT
#include "trace_observer.hpp"

#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/options.hpp"
#include "environment.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace cuda_zstd::detail {
namespace {

thread_local Origin last_origin = Origin::own;

trace::Outcome outcome_of(const void* ptr, Origin origin) noexcept {
    if (ptr == nullptr) return trace::Outcome::out_of_memory;
    switch (origin) {
    case Origin::own:
        return trace::Outcome::done;
    case Origin::larger_pool:
        return trace::Outcome::larger_pool;
    case Origin::source:
        break;
    }
    return trace::Outcome::missed;
}

std::uint32_t next_number() noexcept {
    static std::atomic<std::uint32_t> pools{0};
    return pools.fetch_add(1, std::memory_order_relaxed);
}

/// The range of an allocation or a free in fine mode.
const TraceName& name_of(trace::Call call) noexcept {
    using enum trace::Call;
    static const TraceName names[] = {{"allocate", TraceCategory::allocate},
                                      {"try_allocate", TraceCategory::allocate},
                                      {"deallocate", TraceCategory::free},
                                      {"allocate_device_arena", TraceCategory::allocate},
                                      {"release_device_arena", TraceCategory::free}};
    return names[static_cast<unsigned>(call) - static_cast<unsigned>(allocate)];
}

const TraceName& name_of(trace::Outcome outcome) noexcept {
    static const TraceName names[] = {{"hit", TraceCategory::allocate},     {"larger pool", TraceCategory::allocate},
                                      {"miss", TraceCategory::allocate},    {"no memory", TraceCategory::allocate},
                                      {"refused", TraceCategory::allocate}, {"failed", TraceCategory::allocate}};
    return names[static_cast<unsigned>(outcome)];
}

} // namespace

Observer::Observer(const PoolOptions& options, Backend& backend, std::function<TraceFigures()> figures)
    : track_(track_mode_from_environment()), backend_(backend), figures_(std::move(figures)), number_(next_number()),
      counters_("cuda_zstd pool " + std::to_string(number_)), heaps_(number_) {
    const NvtxMode mode = nvtx_mode();
    nvtx_ = mode != NvtxMode::off && nvtx_domain() != nullptr;
    tells_heaps_ = mode != NvtxMode::off;
    fine_ = nvtx_ && mode == NvtxMode::fine;
    if (track_ != TrackMode::off) sites_.emplace();
    if (const auto path = variable("CUDA_ZSTD_POOL_TRACE")) {
        writer_ = &TraceWriter::to(*path);
        trace::Event event;
        event.call = trace::Call::pool_begin;
        event.pool = number_;
        event.bytes = options.max_bytes;
        event.detail = static_cast<std::uint64_t>(options.strategy) | static_cast<std::uint64_t>(backend.kind()) << 8;
        event.begin = event.end = TraceClock::now();
        writer_->add(event);
    }
    // The first arena will tell whether a tool wants blocks; the call that makes it must be watched in case.
    watch_ = tells_heaps_ ? Watch::every_call : wanted_watch();
}

Watch Observer::wanted_watch() const noexcept {
    if (writer_ != nullptr || fine_ || track_ == TrackMode::all || heaps_.wanted()) return Watch::every_call;
    return track_ == TrackMode::sample ? Watch::sample : Watch::none;
}

Observer::~Observer() {
    if (writer_ == nullptr) return;
    trace::Event event;
    event.call = trace::Call::pool_end;
    event.pool = number_;
    event.begin = event.end = TraceClock::now();
    writer_->add(event);
    writer_->flush();
}

std::shared_ptr<ArenaSource> Observer::source(std::shared_ptr<ArenaSource> source) {
    if (!tells_heaps_) return source;
    return observed_source(
        std::move(source), heaps_, [this] { watch_.store(wanted_watch(), std::memory_order_relaxed); }, number_);
}

void Observer::allocated_sampled(const void* ptr, const void* site) noexcept {
    if (ptr != nullptr) sites_->add(ptr, CallSite{{site}});
}

void Observer::found_in(Origin origin) noexcept { last_origin = origin; }

void Observer::out_of_memory(std::size_t bytes, std::uint64_t stream_id) const noexcept {
    static const TraceName name("out of memory", TraceCategory::allocate);
    if (nvtx_) trace_mark(name, {bytes, stream_id, number_, 0});
}

/// A block is the stream's until the work before its free is done; a tool that checks memory knows no streams.
void Observer::finish_accesses(cudaStream_t stream) const noexcept try {
    if (backend_.kind() != BackendKind::cuda || backend_.is_capturing(stream)) return;
    if (const WaitPermit permit(backend_); permit) backend_.wait_idle();
} catch (...) {
    // The call itself will say what is wrong.
}

void Observer::was_reset() noexcept {
    if (sites_) sites_->clear();
    if (heaps_.wanted()) heaps_.reset();
}

void Observer::trace_capacity() noexcept {
    const std::size_t mapped_bytes = figures_().mapped_bytes;
    if (last_mapped_bytes_.exchange(mapped_bytes, std::memory_order_relaxed) == mapped_bytes) return;
    trace::Event event;
    event.call = trace::Call::capacity;
    event.pool = number_;
    event.bytes = mapped_bytes;
    event.begin = event.end = TraceClock::now();
    writer_->add(event);
}

std::uint64_t Observer::id_of(cudaStream_t stream) const noexcept try {
    return backend_.is_capturing(stream) ? reinterpret_cast<std::uintptr_t>(stream) : backend_.stream_id(stream);
} catch (...) {
    return 0; // The call itself will say what is wrong with it.
}

ObservedWork::ObservedWork(const Observer& observer, const TraceName& name, std::size_t bytes,
                           std::uint64_t stream_id) noexcept
    : observer_(observer) {
    if (observer.nvtx_) range_.emplace(name, TracePayload{bytes, stream_id, observer.number_, 0});
}

ObservedWork::~ObservedWork() {
    if (range_) observer_.sample_counters();
}

ObservedCall::ObservedCall(Observer& observer, const CallDetails& details) noexcept
    : observer_(observer), details_(details),
      names_stream_(trace::is_allocation(details.call) || trace::is_free(details.call)),
      stream_id_(names_stream_ ? observer.id_of(details.stream) : 0) {
    if (observer_.fine_ && names_stream_)
        range_.emplace(name_of(details.call), TracePayload{details.bytes, stream_id_, observer_.number_, 0});
    last_origin = Origin::own;
    if (trace::is_free(details.call)) told_free();
    if (observer_.writer_ != nullptr) begin_ticks_ = TraceClock::now();
}

ObservedCall::~ObservedCall() {
    if (range_ && observer_.counters_.wanted()) observer_.sample_counters();
}

/// Before another thread can get the block.
void ObservedCall::told_free() noexcept {
    if (observer_.track_ != TrackMode::off) freed_site_ = observer_.sites_->take(details_.ptr);
    if (!observer_.heaps_.wanted()) return;
    observer_.finish_accesses(details_.stream);
    was_region_ = observer_.heaps_.remove_block(details_.ptr);
}

void ObservedCall::allocated(const void* ptr) noexcept {
    const trace::Outcome outcome = outcome_of(ptr, last_origin);
    end(outcome, ptr);
    if (ptr == nullptr) return;
    if (observer_.track_ == TrackMode::all)
        observer_.sites_->add(ptr, CallSites::here(details_.site));
    else if (observer_.track_ == TrackMode::sample && CallSites::is_sampled(ptr))
        observer_.allocated_sampled(ptr, details_.site);
    if (observer_.heaps_.wanted())
        observer_.heaps_.add_block(ptr, details_.bytes,
                                   details_.call == trace::Call::allocate_device_arena ? "device arena" : "block");
}

void ObservedCall::failed(trace::Outcome outcome) noexcept {
    end(outcome, details_.ptr);
    if (!trace::is_free(details_.call)) return;
    // Nothing was freed: the block, if it is one, is the caller's as before.
    if (freed_site_.frames[0] != nullptr) observer_.sites_->add(details_.ptr, freed_site_);
    if (was_region_ != 0) observer_.heaps_.add_block(details_.ptr, was_region_, "block");
}

void ObservedCall::end(trace::Outcome outcome, const void* ptr) noexcept {
    if (range_ && trace::is_allocation(details_.call))
        trace_mark(name_of(outcome), {details_.bytes, stream_id_, observer_.number_, 0});
    if (observer_.writer_ == nullptr) return;
    trace::Event event;
    event.call = details_.call;
    event.outcome = outcome;
    event.pool = observer_.number_;
    event.begin = begin_ticks_;
    event.end = TraceClock::now();
    event.stream = stream_id_;
    event.bytes = details_.bytes;
    if (std::has_single_bit(details_.alignment)) event.alignment = std::max<std::size_t>(details_.alignment, 256);
    event.pointer = reinterpret_cast<std::uintptr_t>(ptr);
    observer_.writer_->add(event);
    if (outcome != trace::Outcome::done || !names_stream_) observer_.trace_capacity();
}

} // namespace cuda_zstd::detail
