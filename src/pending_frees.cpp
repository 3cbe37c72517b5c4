// SPDX-License-Identifier: MIT
#include "pending_frees.hpp"

#include "cuda_zstd/host/error.hpp"

#include <string>

namespace cuda_zstd::detail {

PendingFrees::~PendingFrees() {
    for (const auto& pending : streams_)
        if (pending->launched.handle != nullptr) backend_.destroy_event(pending->launched);
}

void PendingFrees::refuse_capture(cudaStream_t stream, const char* call) const {
    if (backend_.is_capturing(stream))
        throw usage_error(std::string(call) + " of a device pool on a stream that is being captured into a graph: the "
                                              "graph would free the blocks again each time that it is launched");
}

void PendingFrees::add(void* block, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    refuse_capture(stream, "deallocate");
    OfStream& pending = of(stream);
    if (pending.batch.count == most_batch_blocks) launch(pending);
    pending.batch.blocks[pending.batch.count++] = block;
}

void PendingFrees::launch(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    refuse_capture(stream, "flush");
    const std::uint64_t id = backend_.stream_id(stream);
    for (const auto& pending : streams_)
        if (pending->id == id) return launch(*pending);
}

void PendingFrees::launch_all() {
    const std::lock_guard lock(mutex_);
    for (const auto& pending : streams_)
        if (pending->batch.count != 0 && !backend_.is_capturing(pending->stream)) launch(*pending);
}

void PendingFrees::synchronize() {
    const std::lock_guard lock(mutex_);
    for (const auto& pending : streams_)
        if (pending->launched.handle != nullptr) backend_.synchronize(pending->launched);
}

/// The stream's entry; a new one takes the place of one whose stream has nothing left here.
PendingFrees::OfStream& PendingFrees::of(cudaStream_t stream) {
    const std::uint64_t id = backend_.stream_id(stream);
    OfStream* idle = nullptr;
    for (const auto& pending : streams_) {
        if (pending->id == id) return *pending;
        if (pending->batch.count == 0) idle = pending.get();
    }
    if (idle == nullptr || !backend_.is_complete(idle->launched)) {
        auto added = std::make_unique<OfStream>();
        added->launched = backend_.create_untimed_event();
        idle = streams_.emplace_back(std::move(added)).get();
    }
    idle->stream = stream;
    idle->id = id;
    return *idle;
}

void PendingFrees::launch(OfStream& pending) {
    if (pending.batch.count == 0) return;
    launch_free_batch(backend_, pending.stream, heap_, pending.batch, log_);
    pending.batch.count = 0;
    backend_.record(pending.launched, pending.stream);
}

} // namespace cuda_zstd::detail
