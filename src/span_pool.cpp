// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/span_pool.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
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
    const Hold hold(*this);
    Taken taken = heap_.take_ready(bytes, alignment, stream_id);
    if (!taken && may_wait(effort))
        taken = heap_.take_any(bytes, alignment, order_.may_close() ? Within::all : Within::recorded);
    if (!taken) {
        release_empty(1);
        const std::size_t span_bytes = next_span_bytes();
        Taken memory;
        if (bytes + alignment <= span_bytes) memory = parent_.take(span_bytes, granule_bytes, stream_id, effort);
        if (!memory) {
            memory = parent_.take(bytes, alignment, stream_id, effort);
            memory.origin = Origin::larger_pool;
            return memory;
        }
        Block& all = add_span(std::move(memory));
        heap_.file_pending();
        taken = heap_.carve(all, aligned_up(all.ptr, alignment), bytes);
        taken.origin = Origin::larger_pool;
    }
    auto& span = static_cast<Span&>(*taken.block->region);
    if (span.live_blocks++ == 0) empty_spans_.fetch_sub(1, relaxed);
    return taken;
}

/// The one block, free, of a new span.
Block& SpanPool::add_span(Taken memory) {
    try {
        auto owned = std::make_unique<Span>();
        Span& span = *owned;
        span.pool = this;
        span.memory = memory.block;
        Block& all = heap_.make(span, memory.block->ptr, memory.block->bytes);
        span.first = &all;
        try {
            spans_.emplace(&span, std::move(owned));
        } catch (...) {
            heap_.discard(all);
            throw;
        }
        span_bytes_ += memory.block->bytes;
        empty_spans_.fetch_add(1, relaxed);
        note_empty(span);
        // What the memory still waits for goes with each block that is cut from it.
        heap_.give(all, std::move(memory.dependencies));
        return all;
    } catch (...) {
        parent_.give(*memory.block, std::move(memory.dependencies));
        throw;
    }
}

void SpanPool::note_empty(Span& span) const noexcept {
    if (std::exchange(span.on_empty_list, true)) return;
    span.next_empty = empty_list_;
    empty_list_ = &span;
}

void SpanPool::give(Block& block, Dependencies dependencies) {
    block.dependencies = std::move(dependencies);
    Block* const one = &block;
    if (heap_.post({&one, 1})) merge(block);
}

void SpanPool::give(std::span<Block* const> blocks, const TicketRef& ticket) noexcept {
    if (heap_.post(blocks, ticket)) merge(*blocks[0]);
}

/// A block that was posted with its neighbours, unless somebody else is at work here.
void SpanPool::merge(Block& block) noexcept {
    if (!mutex_.try_lock()) return;
    const std::lock_guard lock(mutex_, std::adopt_lock);
    receive();
    heap_.merge_pending(block);
}

void SpanPool::receive() const noexcept {
    heap_.receive([this](Block& block) {
        auto& span = static_cast<Span&>(*block.region);
        if (--span.live_blocks != 0) return;
        empty_spans_.fetch_add(1, relaxed);
        note_empty(span);
    });
}

/// Gives back all empty spans but for `keep`; whether there were any.
bool SpanPool::release_empty(std::size_t keep) {
    const std::size_t before = empty_spans_.load(relaxed);
    Span* kept = nullptr;
    while (Span* span = empty_list_) {
        empty_list_ = span->next_empty;
        span->on_empty_list = false;
        if (span->live_blocks != 0) continue;
        if (empty_spans_.load(relaxed) > keep) {
            release(*span);
        } else {
            span->next_empty = kept;
            kept = span;
        }
    }
    while (kept != nullptr)
        note_empty(*std::exchange(kept, kept->next_empty));
    return before > keep;
}

void SpanPool::release(Span& span) {
    Block& memory = *span.memory;
    Dependencies dependencies;
    try {
        dependencies = heap_.dissolve(span);
    } catch (...) {
        note_empty(span);
        throw;
    }
    empty_spans_.fetch_sub(1, relaxed);
    span_bytes_ -= memory.bytes;
    parent_.give(memory, std::move(dependencies));
    spans_.erase(&span);
}

bool SpanPool::give_back_surplus() {
    if (empty_spans_.load(relaxed) <= 1 && !heap_.has_posted()) return false;
    const Hold hold(*this);
    return release_empty(1);
}

void SpanPool::flush() {
    const Hold hold(*this);
    release_empty(0);
}

void SpanPool::wait_on_host() {
    Dependencies pending;
    {
        const Hold hold(*this);
        pending = heap_.pending();
    }
    order_.wait_on_host(pending);
    const Hold hold(*this);
    heap_.settle();
}

void SpanPool::clear() {
    const Hold hold(*this);
    heap_.clear();
    spans_.clear();
    empty_list_ = nullptr;
    span_bytes_ = 0;
    empty_spans_ = 0;
}

FreeFigures SpanPool::figures() const {
    const Hold hold(*this);
    heap_.file_pending();
    return {heap_.free_blocks(), heap_.free_bytes(), heap_.largest_free_bytes()};
}

void SpanPool::for_each_free(const std::function<void(const Block&)>& visit) const {
    const Hold hold(*this);
    heap_.file_pending();
    heap_.for_each_free(visit);
}

std::string SpanPool::check() const {
    const Hold hold(*this);
    std::vector<const Region*> regions;
    std::size_t empty = 0;
    for (const auto& [span, owned] : spans_) {
        regions.push_back(span);
        std::size_t live = 0;
        for (const Block* block = span->first; block != nullptr; block = block->after)
            live += block->state == Block::State::live;
        if (live != span->live_blocks) return "a span's count of live blocks is wrong";
        empty += live == 0;
        if (live == 0 && !span->on_empty_list) return "an empty span is not on the list of those";
    }
    if (empty != empty_spans_) return "the count of empty spans is wrong";
    if (std::string found = heap_.check(regions); !found.empty()) return found;
    heap_.file_pending();
    return heap_.check(regions);
}

} // namespace cuda_zstd::detail
