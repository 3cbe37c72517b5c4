// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/stream_order.hpp"

#include <memory>
#include <utility>

namespace cuda_zstd::detail {

void intrusive_ptr_add_ref(Ticket* ticket) noexcept { ticket->references.fetch_add(1, std::memory_order_relaxed); }

void intrusive_ptr_release(Ticket* ticket) noexcept {
    if (ticket->references.fetch_sub(1, std::memory_order_acq_rel) == 1) ticket->home->recycle(ticket);
}

void Dependencies::clear() noexcept {
    first_.reset();
    more_.clear();
}

void Dependencies::add(const TicketRef& ticket) {
    bool covered = false;
    for_each([&](const TicketRef& present) {
        covered |= present == ticket || (present->stream_id == ticket->stream_id && present->began > ticket->ended);
    });
    if (covered) return;
    remove_if([&](const TicketRef& present) {
        return present->stream_id == ticket->stream_id && present->ended < ticket->began;
    });
    if (first_ == nullptr)
        first_ = ticket;
    else
        more_.push_back(ticket);
}

void Dependencies::add(const Dependencies& others) {
    others.for_each([this](const TicketRef& ticket) { add(ticket); });
}

std::optional<std::uint64_t> Dependencies::sole_stream() const noexcept {
    if (first_ == nullptr) return std::nullopt;
    for (const TicketRef& ticket : more_)
        if (ticket->stream_id != first_->stream_id) return std::nullopt;
    return first_->stream_id;
}

StreamOrder::~StreamOrder() {
    for (Shelf& shelf : shelves_)
        for (Ticket* ticket : shelf.spare) {
            backend_.destroy_event(ticket->event);
            delete ticket;
        }
}

TicketRef StreamOrder::record(const StreamRef& stream) {
    Ticket* ticket = nullptr;
    {
        Shelf& from = shelf(stream.id);
        const std::lock_guard lock(from.mutex);
        if (!from.spare.empty()) {
            ticket = from.spare.back();
            from.spare.pop_back();
        }
    }
    if (ticket == nullptr) {
        auto fresh = std::make_unique<Ticket>();
        fresh->home = this;
        fresh->event = backend_.create_untimed_event();
        events_.fetch_add(1, std::memory_order_relaxed);
        ticket = fresh.release();
    }
    ticket->stream_id = stream.id;
    ticket->complete.store(false, std::memory_order_relaxed);
    TicketRef reference(ticket);
    ticket->began = clock_.fetch_add(1, std::memory_order_acq_rel);
    backend_.record(ticket->event, stream.handle);
    ticket->ended = clock_.fetch_add(1, std::memory_order_acq_rel);
    return reference;
}

Dependencies StreamOrder::freed_on(const StreamRef& stream, std::uint64_t allocation_stream_id,
                                   Dependencies since_allocation) {
    if (stream.id == allocation_stream_id || settle(since_allocation)) return Dependencies(record(stream));
    since_allocation.add(record(stream));
    return since_allocation;
}

TicketRef StreamOrder::freed_on_as_one(const StreamRef& stream, std::uint64_t allocation_stream_id,
                                       Dependencies since_allocation) {
    if (stream.id != allocation_stream_id && !settle(since_allocation)) wait_on_device(stream, since_allocation);
    return record(stream);
}

void StreamOrder::recycle(Ticket* ticket) noexcept {
    Shelf& to = shelf(ticket->stream_id);
    const std::lock_guard lock(to.mutex);
    to.spare.push_back(ticket);
}

bool StreamOrder::is_complete(Ticket& ticket) {
    if (ticket.complete.load(std::memory_order_acquire)) return true;
    if (!backend_.is_complete(ticket.event)) return false;
    ticket.complete.store(true, std::memory_order_release);
    return true;
}

bool StreamOrder::settle(Dependencies& dependencies) {
    dependencies.remove_if([this](const TicketRef& ticket) { return is_complete(*ticket); });
    return dependencies.empty();
}

void StreamOrder::wait_on_device(const StreamRef& stream, const Dependencies& dependencies) {
    dependencies.for_each([&](const TicketRef& ticket) {
        if (ticket->stream_id == stream.id || ticket->complete.load(std::memory_order_acquire)) return;
        backend_.wait(stream.handle, ticket->event);
        device_waits_.fetch_add(1, std::memory_order_relaxed);
    });
}

void StreamOrder::wait_on_host(const Dependencies& dependencies) {
    dependencies.for_each([&](const TicketRef& ticket) {
        if (ticket->complete.load(std::memory_order_acquire)) return;
        backend_.synchronize(ticket->event);
        ticket->complete.store(true, std::memory_order_release);
    });
}

} // namespace cuda_zstd::detail
