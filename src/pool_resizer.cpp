// SPDX-License-Identifier: MIT
// Set-up and growth; trim is in pool_resizer_trim.cpp.
#include "pool_resizer.hpp"

#include "cuda_zstd/host/error.hpp"
#include "cuda_zstd/host/trace.hpp"

#include <algorithm>
#include <memory>
#include <new>
#include <string>

namespace cuda_zstd::detail {

PoolResizer::PoolResizer(Backend& backend, ArenaPool& arenas, const PoolOptions& options, const DevicePoolSize& size)
    : backend_(backend), options_(options), initial_bytes_(size.initial_bytes),
      memory_(arenas, GrowingLayout::of(size.max_bytes, size.chunk_bytes, backend.processors())),
      last_used_(memory_.layout().chunk_count, 0) {
    const std::size_t chunks = memory_.layout().chunk_count;
    try {
        order_ = static_cast<std::uint32_t*>(backend_.allocate_pinned(chunks * sizeof(std::uint32_t)));
        states_ =
            static_cast<Atom<std::uint32_t>*>(backend_.allocate_pinned((chunks + 1) * sizeof(Atom<std::uint32_t>)));
        std::uninitialized_fill_n(states_, chunks + 1, Atom<std::uint32_t>{0});
        pulse_ = new (backend_.allocate_pinned(sizeof(HeapPulse))) HeapPulse{};
        resized_ = backend_.create_untimed_event();
        taken_ = backend_.create_untimed_event();
        stranded_.reserve(chunks);
    } catch (...) {
        release();
        throw;
    }
}

PoolResizer::~PoolResizer() {
    if (taking_ != 0) {
        try {
            wait_for_take();
        } catch (...) {
            // The driver is gone, or a kernel has failed: there is nobody to tell.
        }
    }
    release();
}

void PoolResizer::release() noexcept {
    for (const KnownStream& known : streams_)
        backend_.destroy_event(known.reached);
    if (resized_.handle != nullptr) backend_.destroy_event(resized_);
    if (taken_.handle != nullptr) backend_.destroy_event(taken_);
    if (pulse_ != nullptr) backend_.free_pinned(pulse_);
    if (states_ != nullptr) backend_.free_pinned(states_);
    if (order_ != nullptr) backend_.free_pinned(order_);
}

void PoolResizer::refuse_capture(cudaStream_t stream, const char* call) const {
    if (backend_.is_capturing(stream))
        throw usage_error(std::string(call) + " of a device pool on a stream that is being captured into a graph: "
                                              "memory cannot be mapped when a graph is launched");
}

void PoolResizer::set_up(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    backend_.fill_async(memory_.base(), 0, memory_.metadata_bytes(), stream);
    clean_metadata_bytes_ = memory_.metadata_bytes();
    launch_chunk_setup(backend_, stream, chunked());
    backend_.record(resized_, stream);
    know(stream);
    const GrowthReport grown = grow_locked(std::max<std::size_t>(initial_bytes_, 1), stream);
    if (grown.limit == GrowthLimit::none) return;
    const std::string text = "a device pool of " + std::to_string(initial_bytes_) + " bytes at first: ";
    if (grown.limit == GrowthLimit::out_of_memory) throw out_of_memory(text + memory_.last_failure());
    throw configuration_error(text + "expected at most what the maximum leaves for blocks, which is " +
                              std::to_string(memory_.layout().heap.payload_bytes()));
}

std::size_t PoolResizer::mapped_bytes() const {
    const std::lock_guard lock(mutex_);
    return memory_.mapped_bytes();
}

void PoolResizer::set_policy(const ResizePolicy& policy) {
    const auto is_share = [](double share) { return share >= 0.0 && share <= 1.0; };
    if (!is_share(policy.grow_below_free_share) || !is_share(policy.shrink_above_free_share) ||
        policy.grow_below_free_share >= policy.shrink_above_free_share || policy.shrink_after_calls == 0)
        throw configuration_error("a ResizePolicy needs 0 <= grow_below_free_share < shrink_above_free_share <= 1 and "
                                  "at least one call before it shrinks");
    const std::lock_guard lock(mutex_);
    policy_ = policy;
}

/// Remembers a stream whose kernels use the pool.
void PoolResizer::know(cudaStream_t stream) {
    const std::uint64_t id = backend_.stream_id(stream);
    for (const KnownStream& known : streams_)
        if (known.id == id) return;
    streams_.reserve(streams_.size() + 1);
    streams_.push_back({id, stream, backend_.create_untimed_event()});
}

void PoolResizer::forget(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t id = backend_.stream_id(stream);
    std::erase_if(streams_, [&](const KnownStream& known) {
        if (known.id != id) return false;
        backend_.destroy_event(known.reached);
        return true;
    });
}

GrowthReport PoolResizer::grow(std::size_t bytes, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    refuse_capture(stream, "grow");
    know(stream);
    return grow_locked(bytes, stream);
}

GrowthReport PoolResizer::grow_locked(std::size_t bytes, cudaStream_t stream) {
    static const TraceName name("device pool grows", TraceCategory::grow);
    const TraceRange range(name, bytes);
    const std::size_t before_bytes = memory_.metadata_bytes();
    if (taking_ != 0 && take_is_done()) finish_take(stream);
    const std::size_t most = bytes / chunk_bytes() + (bytes % chunk_bytes() != 0);
    std::vector<std::uint32_t> chunks;
    chunks.reserve(memory_.layout().chunk_count);
    chunks.assign(stranded_.begin(), stranded_.end());
    stranded_.clear();
    GrowthReport report;
    try {
        while (chunks.size() < most) {
            const std::optional<std::uint32_t> chunk = memory_.map_next();
            if (!chunk) {
                report.limit = memory_.mapped_chunks() == memory_.layout().chunk_count ? GrowthLimit::maximum
                                                                                       : GrowthLimit::out_of_memory;
                break;
            }
            chunks.push_back(*chunk);
        }
    } catch (...) {
        give_up(chunks, 0);
        memory_.shrink_metadata(before_bytes);
        throw;
    }
    is_starved_ = report.limit == GrowthLimit::out_of_memory;
    if (!chunks.empty()) {
        // The heap is short of pages: none is behind the others, until the next trim.
        if (near_pages_ != 0) near_pages_ = ClaimExtent::near_as_it_drains;
        publish(chunks, stream);
    }
    report.grown_bytes = chunks.size() * chunk_bytes();
    report.mapped_bytes = memory_.mapped_bytes();
    return report;
}

/// Unmaps the chunks from `first` on, which are not in the heap.
void PoolResizer::give_up(const std::vector<std::uint32_t>& chunks, std::size_t first) noexcept {
    for (std::size_t at = first; at < chunks.size(); ++at)
        if (!memory_.unmap(chunks[at])) stranded_.push_back(chunks[at]);
}

/// Opens mapped chunks behind all that known streams were given. What is not opened is unmapped.
void PoolResizer::publish(const std::vector<std::uint32_t>& chunks, cudaStream_t stream) {
    const std::size_t clean_before_bytes = clean_metadata_bytes_;
    std::size_t opened = 0;
    try {
        const std::uint64_t id = backend_.stream_id(stream);
        for (const KnownStream& known : streams_) {
            if (known.id == id || backend_.is_capturing(known.stream)) continue;
            backend_.record(known.reached, known.stream);
            backend_.wait(stream, known.reached);
        }
        open(chunks, opened, stream);
    } catch (...) {
        end_order(stream);
        try {
            backend_.synchronize(stream); // what was submitted before it failed still uses the memory
        } catch (...) {
            // Then none of it can be unmapped: the next growth opens what is stranded.
            stranded_.insert(stranded_.end(), chunks.begin() + static_cast<std::ptrdiff_t>(opened), chunks.end());
            throw;
        }
        give_up(chunks, opened);
        if (opened == 0 && stranded_.empty()) {
            memory_.shrink_metadata(clean_before_bytes);
            clean_metadata_bytes_ = clean_before_bytes;
        }
        throw;
    }
}

/// `opened` counts the chunks whose launches were accepted.
void PoolResizer::open(const std::vector<std::uint32_t>& chunks, std::size_t& opened, cudaStream_t stream) {
    backend_.wait(stream, resized_);
    if (memory_.metadata_bytes() > clean_metadata_bytes_) {
        backend_.fill_async(memory_.base() + clean_metadata_bytes_, 0, memory_.metadata_bytes() - clean_metadata_bytes_,
                            stream);
        clean_metadata_bytes_ = memory_.metadata_bytes();
    }
    do {
        ChunkBatch batch;
        while (batch.count < most_batch_chunks && opened + batch.count < chunks.size()) {
            batch.chunks[batch.count] = chunks[opened + batch.count];
            ++batch.count;
        }
        launch_chunk_open(backend_, stream, chunked(), batch, {memory_.extent_pages(), near_pages_});
        for (std::uint32_t at = 0; at < batch.count; ++at)
            last_used_[batch.chunks[at]] = tick_;
        opened += batch.count;
    } while (opened < chunks.size());
    end_order(stream);
    ignored_pulses_ = pulses_;
}

/// Whatever opens or takes chunks next comes behind what `stream` was given.
void PoolResizer::end_order(cudaStream_t stream) {
    try {
        backend_.record(resized_, stream);
    } catch (...) {
        try {
            backend_.synchronize(stream);
        } catch (...) {
            // Neither order nor end can be had of a driver that fails every call.
        }
    }
}

/// What a pulse that calls for growth calls for.
std::size_t PoolResizer::wanted_bytes(const HeapPulse& pulse) const {
    const std::size_t mapped_bytes = pulse.mapped_pages << page_shift;
    std::size_t wanted = chunk_bytes();
    if (options_.growth == Growth::geometric)
        wanted = static_cast<std::size_t>(static_cast<double>(mapped_bytes) * (options_.growth_factor - 1.0));
    if (options_.growth == Growth::fixed_step) wanted = options_.growth_step_bytes;
    return std::max({wanted, chunk_bytes(), static_cast<std::size_t>(pulse.first_failed_bytes)});
}

} // namespace cuda_zstd::detail
