// SPDX-License-Identifier: MIT
// The streams of a pool's calls: which are alive for certain, which are being captured into a graph, and what is
// refused. While a stream is captured its blocks are the graph's: they pass by the pools and their counts.
#include "cuda_zstd/host/error.hpp"
#include "pool_state.hpp"

#include <string>

namespace cuda_zstd {

using namespace detail;

namespace {

constexpr auto relaxed = std::memory_order_relaxed;

[[noreturn]] void refuse_capture(const char* call) {
    throw usage_error(std::string(call) + " on a stream that is being captured into a graph: the pool orders blocks by "
                                          "the work that runs, and a graph runs later and again; allocate before the "
                                          "capture begins and free after the graph's last launch");
}

} // namespace

void MemoryPoolManager::State::refuse_at_exit() {
    throw usage_error(
        "the program ends and the driver may be gone: the pool can only be freed to, which has no effect");
}

StreamRef MemoryPoolManager::State::stream_of(cudaStream_t stream, const char* call) {
    require_own_process();
    require_driver();
    if (backend.is_capturing(stream)) refuse_capture(call);
    seen_without_capture(stream);
    return {stream, backend.stream_id(stream)};
}

void MemoryPoolManager::State::refuse(const RegisteredStream& stream, const char* call) const {
    if (stream.pool().state_.get() != this)
        throw usage_error(std::string(call) + " on a stream that is registered with another pool");
    refuse_capture(call);
}

/// An announced capture.
StreamRef MemoryPoolManager::State::captured(const RegisteredStream& stream, const char* call) const {
    require_own_process();
    if (!backend.is_capturing(stream.handle()))
        throw usage_error(std::string(call) +
                          " on a registered stream that is said to be captured, but its capture is not under way: "
                          "announce it right before it begins and tell its end right after");
    return {stream.handle(), stream.id(), StreamLife::captured};
}

void MemoryPoolManager::State::verify(const RegisteredStream& stream, const char* call) const {
    if (backend.stream_id(stream.handle()) != stream.id())
        throw usage_error(std::string(call) + " on a registered stream that was destroyed");
    if (backend.is_capturing(stream.handle()))
        throw usage_error(std::string(call) + " on a registered stream whose capture was not announced");
}

/// Not counted with the blocks: it is the graph's. What frees have left behind is collected only where that needs no
/// stream's work to be waited for.
MemoryPoolManager::State::Granted MemoryPoolManager::State::allocate_for_graph(std::size_t bytes, std::size_t alignment,
                                                                               const StreamRef& stream) {
    require_own_process();
    const Turnstile::Passage passage(turnstile_);
    graphs_.reclaim();
    void* ptr = graphs_.allocate(bytes, alignment, stream);
    if (ptr == nullptr) {
        medium_.give_back_surplus();
        ptr = graphs_.allocate(bytes, alignment, stream);
    }
    if (ptr == nullptr) {
        failed_.fetch_add(1, relaxed);
        observer_.out_of_memory(bytes, stream.id);
    }
    return {ptr, 0};
}

/// A ticket for what was freed on a stream in the past, from outside of any call on the stream.
TicketRef MemoryPoolManager::State::late_ticket(std::uint64_t stream_id, std::size_t bytes) {
    {
        const std::lock_guard lock(registered_mutex_);
        const auto found = registered_.find(stream_id);
        // An event that is recorded in a capture would be the graph's.
        if (found != registered_.end() && may_record(found->second))
            return order_.record({found->second.handle, stream_id});
    }
    return order_.leave_open(stream_id, bytes);
}

void MemoryPoolManager::State::add(const RegisteredStream& stream) {
    const std::lock_guard lock(registered_mutex_);
    Registered& entry = registered_[stream.id()];
    entry.handle = stream.handle();
    if (++entry.times == 1) entry.name = {backend.kind(), stream.handle(), stream.id(), observer_.number()};
}

void MemoryPoolManager::State::remove(const RegisteredStream& stream) noexcept {
    if (is_forked()) return;
    const Turnstile::Passage passage(turnstile_);
    try {
        // While it may still be recorded on.
        if (!backend.is_retired()) caches_.for_each([&](ThreadCache& cache) { collect(cache, stream.id()); });
    } catch (const std::exception&) {
        // Stranded: late_ticket() will leave its ticket open.
    }
    const std::lock_guard lock(registered_mutex_);
    const auto found = registered_.find(stream.id());
    try {
        if (!backend.is_retired()) record_open(found->first, found->second);
    } catch (const std::exception&) {
        // It stays open.
    }
    if (--found->second.times == 0) registered_.erase(found);
}

RegisteredStream::RegisteredStream(MemoryPoolManager& pool, cudaStream_t stream)
    : pool_(pool), handle_(stream), id_(0) {
    if (stream == cudaStreamPerThread && pool.backend().kind() == BackendKind::cuda)
        throw usage_error("cudaStreamPerThread cannot be registered: it names another stream in each thread; use the "
                          "handle itself in each call, or register a stream of cudaStreamCreate");
    id_ = pool.state_->stream_of(stream, "RegisteredStream").id;
    pool.state_->add(*this);
}

RegisteredStream::~RegisteredStream() {
    end_capture();
    pool_.state_->remove(*this);
}

void RegisteredStream::announce_capture() noexcept { pool_.state_->begin_capture(*this, capturing_); }

void RegisteredStream::end_capture() noexcept { pool_.state_->end_capture(*this, capturing_); }

void MemoryPoolManager::State::begin_capture(const RegisteredStream& stream, std::atomic<bool>& announced) noexcept {
    if (is_forked()) return;
    backend.announce_capture();
    const std::lock_guard lock(registered_mutex_);
    if (announced.exchange(true, relaxed))
        backend.end_capture(); // it was counted before
    else
        ++registered_.find(stream.id())->second.captures;
}

void MemoryPoolManager::State::end_capture(const RegisteredStream& stream, std::atomic<bool>& announced) noexcept {
    if (is_forked()) return;
    {
        const std::lock_guard lock(registered_mutex_);
        if (!announced.exchange(false, relaxed)) return;
        --registered_.find(stream.id())->second.captures;
    }
    graphs_.end_capture_of(stream.handle());
    backend.end_capture();
}

/// Records the stream's open ticket, which then can be waited for alone. With the mutex of the registered streams held.
void MemoryPoolManager::State::record_open(std::uint64_t stream_id, const Registered& entry) {
    // An event that is recorded in a capture would be the graph's.
    if (!may_record(entry)) return;
    seen_without_capture(entry.handle);
    order_.record_open({entry.handle, stream_id});
}

/// The same of several registered streams: those among some tickets', or (null) all.
void MemoryPoolManager::State::record_registered(const Dependencies* among) {
    const std::lock_guard lock(registered_mutex_);
    if (among == nullptr) {
        for (const auto& [id, entry] : registered_)
            record_open(id, entry);
        return;
    }
    among->for_each([&](const TicketRef& ticket) {
        const auto found = registered_.find(ticket->stream_id);
        if (found != registered_.end()) record_open(found->first, found->second);
    });
}

} // namespace cuda_zstd
