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

trace::Outcome outcome_of(const LiveRecord& record) noexcept {
    if (record.ptr == nullptr) return trace::Outcome::out_of_memory;
    switch (record.origin) {
    case Origin::own:
        return trace::Outcome::done;
    case Origin::larger_pool:
        return trace::Outcome::larger_pool;
    case Origin::source:
        break;
    }
    return trace::Outcome::missed;
}

std::uint64_t address_of(const void* ptr) noexcept { return reinterpret_cast<std::uintptr_t>(ptr); }

} // namespace

Observer::Observer(const PoolOptions& options, Backend& backend, std::function<std::size_t()> mapped_bytes)
    : backend_(backend), mapped_bytes_(std::move(mapped_bytes)) {
    if (const auto path = variable("CUDA_ZSTD_POOL_TRACE")) {
        writer_ = &TraceWriter::to(*path);
        pool_ = writer_->new_pool();
        trace::Event event;
        event.call = trace::Call::pool_begin;
        event.pool = pool_;
        event.bytes = options.max_bytes;
        event.detail = static_cast<std::uint64_t>(options.strategy) | static_cast<std::uint64_t>(backend.kind()) << 8;
        event.begin = event.end = TraceClock::now();
        writer_->add(event);
        trace_capacity(event.end);
    }
    watches_calls_ = writer_ != nullptr;
}

Observer::~Observer() {
    if (writer_ == nullptr) return;
    trace::Event event;
    event.call = trace::Call::pool_end;
    event.pool = pool_;
    event.begin = event.end = TraceClock::now();
    writer_->add(event);
    writer_->flush();
}

void Observer::trace_capacity(std::uint64_t now) noexcept {
    const std::size_t mapped_bytes = mapped_bytes_();
    if (last_mapped_bytes_.exchange(mapped_bytes, std::memory_order_relaxed) == mapped_bytes) return;
    trace::Event event;
    event.call = trace::Call::capacity;
    event.pool = pool_;
    event.bytes = mapped_bytes;
    event.begin = event.end = now;
    writer_->add(event);
}

ObservedCall::ObservedCall(Observer& observer, const CallDetails& details) noexcept
    : observer_(observer), details_(details) {
    if (observer_.writer_ != nullptr) begin_ticks_ = TraceClock::now();
}

void ObservedCall::allocated(const LiveRecord& record) noexcept {
    end(outcome_of(record), record.stream_id, record.ptr);
}

void ObservedCall::freed(std::uint64_t stream_id) noexcept { end(trace::Outcome::done, stream_id, details_.ptr); }

void ObservedCall::done() noexcept { end(trace::Outcome::done, 0, nullptr); }

void ObservedCall::failed(trace::Outcome outcome) noexcept { end(outcome, 0, details_.ptr); }

void ObservedCall::end(trace::Outcome outcome, std::uint64_t stream_id, const void* ptr) noexcept {
    if (observer_.writer_ == nullptr) return;
    trace::Event event;
    event.call = details_.call;
    event.outcome = outcome;
    event.pool = observer_.pool_;
    event.begin = begin_ticks_;
    event.end = TraceClock::now();
    event.stream = stream_id;
    event.bytes = details_.bytes;
    if (std::has_single_bit(details_.alignment)) event.alignment = std::max<std::size_t>(details_.alignment, 256);
    event.pointer = address_of(ptr);
    observer_.writer_->add(event);
    const bool may_have_mapped =
        outcome != trace::Outcome::done || !(trace::is_allocation(event.call) || trace::is_free(event.call));
    if (may_have_mapped) observer_.trace_capacity(event.end);
}

} // namespace cuda_zstd::detail
