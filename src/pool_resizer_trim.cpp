// SPDX-License-Identifier: MIT
// Trim of a device pool, and what it does by itself between launches.
#include "pool_resizer.hpp"

#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"

#include <algorithm>
#include <atomic>
#include <numeric>

namespace cuda_zstd::detail {

TrimReport PoolResizer::trim(std::size_t keep_bytes, cudaStream_t stream) {
    static const TraceName name("device pool trims", TraceCategory::trim);
    const TraceRange range(name, keep_bytes);
    const std::lock_guard lock(mutex_);
    refuse_capture(stream, "trim");
    know(stream);
    if (taking_ != 0) {
        wait_for_take();
        finish_take(stream);
    }
    const std::size_t excess_bytes = memory_.mapped_bytes() - std::min(memory_.mapped_bytes(), keep_bytes);
    begin_take(excess_bytes / chunk_bytes(), stream);
    if (taking_ == 0) return {0, 0, memory_.mapped_bytes(), 0};
    wait_for_take();
    return finish_take(stream);
}

/// Launches the taking of up to `most` chunks, least recently used first.
void PoolResizer::begin_take(std::size_t most, cudaStream_t stream) {
    std::uint32_t count = 0;
    for (std::uint32_t chunk = 0; chunk < memory_.layout().chunk_count; ++chunk)
        if (memory_.is_mapped(chunk)) order_[count++] = chunk;
    // Of those that were unused equally long the last ones, so that the mapped chunks stay together.
    std::sort(order_, order_ + count, [&](std::uint32_t left, std::uint32_t right) {
        return last_used_[left] != last_used_[right] ? last_used_[left] < last_used_[right] : left > right;
    });
    if (count == 0) return;
    backend_.wait(stream, resized_);
    launch_chunk_take(backend_, stream, chunked(), count, order_,
                      static_cast<std::uint32_t>(std::min<std::size_t>(most, count)), states_);
    taking_ = count;
    keeping_ = count - static_cast<std::uint32_t>(std::min<std::size_t>(most, count));
    ++tick_;
    ignored_pulses_ = pulses_;
    is_taken_recorded_ = false;
    end_order(stream);
    backend_.record(taken_, stream);
    is_taken_recorded_ = true;
}

void PoolResizer::wait_for_take() {
    if (is_taken_recorded_)
        backend_.synchronize(taken_);
    else
        backend_.synchronize();
}

/// After a take is done: unmaps what it took. What the driver refuses to take back becomes the heap's again.
TrimReport PoolResizer::finish_take(cudaStream_t stream) {
    TrimReport report;
    for (std::uint32_t at = 0; at < taking_; ++at) {
        const auto state =
            static_cast<ChunkState>(std::atomic_ref<std::uint32_t>(states_[at].value).load(std::memory_order_acquire));
        const std::uint32_t chunk = order_[at];
        if (state == ChunkState::in_use) last_used_[chunk] = tick_;
        if (state == ChunkState::free) ++report.free_chunks;
        if (state != ChunkState::away) continue;
        if (memory_.unmap(chunk)) {
            report.returned_bytes += chunk_bytes();
        } else {
            report.refused_bytes += chunk_bytes();
            stranded_.push_back(chunk);
            ++report.free_chunks;
        }
    }
    const std::uint32_t free_pages =
        std::atomic_ref<std::uint32_t>(states_[taking_].value).load(std::memory_order_acquire);
    taking_ = 0;
    const std::uint32_t near_before = near_pages_;
    near_pages_ = near_pages_after(free_pages);
    report.mapped_bytes = memory_.mapped_bytes();
    if (report.returned_bytes != 0) is_starved_ = false;
    if (report.returned_bytes == 0 && stranded_.empty() && near_pages_ == 0 && near_before == 0) return report;
    std::size_t opened = 0;
    try {
        open(stranded_, opened, stream); // where there is none: a new extent
        stranded_.clear();
    } catch (const cuda_error&) {
        end_order(stream);
        stranded_.erase(stranded_.begin(), stranded_.begin() + static_cast<std::ptrdiff_t>(opened));
        // What is stranded is opened by the next growth; the old extent is as right, only longer to search.
    }
    return report;
}

/// A take that has left more than it was to leave makes the heap drain: what is in use, and a 32nd more, belongs into
/// the first chunks. How many pages those reach to; 0: all is as it should be. `free_pages` are those of mapped chunks
/// that are not stranded.
std::uint32_t PoolResizer::near_pages_after(std::uint32_t free_pages) const {
    if (memory_.mapped_chunks() <= keeping_) return 0;
    const std::uint32_t chunk_pages = memory_.layout().chunk_pages();
    const std::uint32_t open_pages =
        (memory_.mapped_chunks() - static_cast<std::uint32_t>(stranded_.size())) * chunk_pages;
    const std::uint32_t used_pages = open_pages - std::min(open_pages, free_pages);
    const std::uint32_t wanted_pages = std::max(used_pages + used_pages / 32, keeping_ * chunk_pages);
    std::uint32_t found_pages = 0;
    std::uint32_t chunk = 0;
    for (; found_pages < wanted_pages && chunk < memory_.layout().chunk_count; ++chunk)
        if (memory_.is_mapped(chunk)) found_pages += chunk_pages;
    const std::uint32_t near_pages = chunk * chunk_pages;
    return near_pages < memory_.extent_pages() ? near_pages : 0;
}

std::optional<HeapPulse> PoolResizer::read_pulse() const {
    auto* const words = reinterpret_cast<std::uint64_t*>(pulse_);
    const auto word = [&](unsigned at) {
        return std::atomic_ref<std::uint64_t>(words[at]).load(std::memory_order_acquire);
    };
    HeapPulse copy;
    copy.sequence = word(0);
    copy.failures = word(1);
    copy.first_failed_bytes = word(2);
    copy.mapped_pages = word(3);
    copy.free_pages = word(4);
    if (copy.sequence == 0 || word(0) != copy.sequence) return std::nullopt;
    return copy;
}

void PoolResizer::between_launches(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    if (backend_.is_capturing(stream)) return;
    know(stream);
    if (taking_ != 0 && take_is_done()) finish_take(stream);
    if (taking_ == 0)
        if (const std::optional<HeapPulse> pulse = read_pulse(); pulse && pulse->sequence > ignored_pulses_)
            react(*pulse, stream);
    launch_pulse(backend_, stream, heap(), pulse_, ++pulses_);
}

/// Grows or begins to shrink.
void PoolResizer::react(const HeapPulse& pulse, cudaStream_t stream) {
    ignored_pulses_ = pulse.sequence;
    const auto mapped_pages = static_cast<double>(pulse.mapped_pages);
    const auto free_pages = static_cast<double>(pulse.free_pages);
    const bool failed = pulse.failures != failures_seen_;
    const bool is_low = free_pages < mapped_pages * policy_.grow_below_free_share;
    if (is_low && !failed && !has_reclaimed_) {
        // Pages of empty slabs count as used: the next pulse will tell.
        launch_reclaim(backend_, stream, heap());
        has_reclaimed_ = true;
        ignored_pulses_ = pulses_;
        return;
    }
    has_reclaimed_ = false;
    if (failed || is_low) {
        roomy_calls_ = 0;
        if (memory_.mapped_chunks() != memory_.layout().chunk_count && (failed || !is_starved_))
            grow_locked(wanted_bytes(pulse), stream);
        failures_seen_ = pulse.failures;
        return;
    }
    const std::size_t free_bytes = pulse.free_pages << page_shift;
    const std::size_t kept_bytes = std::max<std::size_t>(policy_.reserve_bytes, (pulse.mapped_pages << page_shift) / 8);
    if (free_pages <= mapped_pages * policy_.shrink_above_free_share || free_bytes < kept_bytes + chunk_bytes()) {
        roomy_calls_ = 0;
        return;
    }
    if (++roomy_calls_ < policy_.shrink_after_calls) return;
    roomy_calls_ = 0;
    launch_reclaim(backend_, stream, heap());
    begin_take((free_bytes - kept_bytes) / chunk_bytes(), stream);
}

} // namespace cuda_zstd::detail
