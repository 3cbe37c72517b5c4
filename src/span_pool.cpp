// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/span_pool.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t smallest_span_bytes = std::size_t{2} << 20;
constexpr std::size_t largest_span_bytes = std::size_t{16} << 20;

} // namespace

SpanPool::SpanPool(Strategy strategy, StreamOrder& order, BlockPool& parent)
    : order_(order), parent_(parent), heap_(strategy, order) {}

/// Spans grow with the pool, so that a pool in little use holds little.
std::size_t SpanPool::next_span_bytes() const {
    return std::clamp(std::bit_ceil(span_bytes_), smallest_span_bytes, largest_span_bytes);
}

Taken SpanPool::take(std::size_t bytes, std::size_t alignment, std::uint64_t stream_id, Effort effort) {
    const std::lock_guard lock(mutex_);
    Taken taken = heap_.take_ready(bytes, alignment, stream_id);
    if (!taken && may_wait(effort)) taken = heap_.take_any(bytes, alignment);
    if (!taken) {
        const std::size_t span_bytes = next_span_bytes();
        Taken memory;
        if (bytes + alignment <= span_bytes) memory = parent_.take(span_bytes, granule_bytes, stream_id, effort);
        if (!memory) {
            memory = parent_.take(bytes, alignment, stream_id, effort);
            memory.origin = Origin::larger_pool;
            return memory;
        }
        auto owned = std::make_unique<Span>();
        Span& span = *owned;
        span.pool = this;
        span.memory = memory.block;
        spans_.emplace(&span, std::move(owned));
        span_bytes_ += memory.block->bytes;
        Block& all = heap_.make(span, memory.block->ptr, memory.block->bytes);
        span.first = &all;
        // What the memory still waits for goes with the block; the rest of the span keeps a copy.
        heap_.give(all, std::move(memory.dependencies));
        ++empty_spans_;
        taken = heap_.carve(
            all, reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::uintptr_t>(all.ptr), alignment)), bytes);
        taken.origin = Origin::larger_pool;
    }
    auto& span = static_cast<Span&>(*taken.block->region);
    if (span.live_blocks++ == 0) --empty_spans_;
    return taken;
}

void SpanPool::give(Block& block, Dependencies dependencies) {
    const std::lock_guard lock(mutex_);
    auto& span = static_cast<Span&>(*block.region);
    heap_.give(block, std::move(dependencies));
    if (--span.live_blocks != 0) return;
    ++empty_spans_;
    if (empty_spans_ > 1) release(span);
}

void SpanPool::release(Span& span) {
    Block& memory = *span.memory;
    --empty_spans_;
    span_bytes_ -= memory.bytes;
    parent_.give(memory, heap_.dissolve(span));
    spans_.erase(&span);
}

void SpanPool::flush() {
    const std::lock_guard lock(mutex_);
    std::vector<Span*> empty;
    for (const auto& [span, owned] : spans_)
        if (span->live_blocks == 0) empty.push_back(span);
    for (Span* span : empty)
        release(*span);
}

void SpanPool::wait_on_host() {
    Dependencies pending;
    {
        const std::lock_guard lock(mutex_);
        pending = heap_.pending();
    }
    order_.wait_on_host(pending);
    const std::lock_guard lock(mutex_);
    heap_.settle();
}

void SpanPool::clear() {
    const std::lock_guard lock(mutex_);
    heap_.clear();
    spans_.clear();
    span_bytes_ = 0;
    empty_spans_ = 0;
}

FreeFigures SpanPool::figures() const {
    const std::lock_guard lock(mutex_);
    return {heap_.free_blocks(), heap_.free_bytes(), heap_.largest_free_bytes()};
}

void SpanPool::for_each_free(const std::function<void(const Block&)>& visit) const {
    const std::lock_guard lock(mutex_);
    heap_.for_each_free(visit);
}

std::string SpanPool::check() const {
    const std::lock_guard lock(mutex_);
    std::vector<const Region*> regions;
    std::size_t empty = 0;
    for (const auto& [span, owned] : spans_) {
        regions.push_back(span);
        std::size_t live = 0;
        for (const Block* block = span->first; block != nullptr; block = block->after)
            live += block->state == Block::State::live;
        if (live != span->live_blocks) return "a span's count of live blocks is wrong";
        empty += live == 0;
    }
    if (empty != empty_spans_) return "the count of empty spans is wrong";
    return heap_.check(regions);
}

} // namespace cuda_zstd::detail
