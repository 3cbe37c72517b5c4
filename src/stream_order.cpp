// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/stream_order.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;
/// What an open ticket may cover before it is recorded: so much could be out of other streams' reach.
constexpr unsigned deferred_frees = 32;
constexpr std::size_t deferred_bytes = std::size_t{64} << 20;
/// Open tickets of all streams together. A stream that ends leaves its own open, and what it covers cannot be used
/// before the next close_all(): so their number is bounded, and the bytes of each shrink with it.
constexpr unsigned most_open_tickets = 64;
/// Frees by which a stream shows that it goes on, when others hold all the places.
constexpr unsigned frees_for_a_place = 32;
/// Streams that a shelf remembers though they defer nothing.
constexpr std::size_t idle_entries = 256;
/// Frees that are recorded at once after another stream had to wait for open tickets.
constexpr unsigned eager_frees = 1024;
/// First frees by which a stream shows that it goes on freeing: from then on they wait for each other.
constexpr unsigned first_frees_at_once = 16;
/// Of a ticket that is not recorded: no other begins after it has ended.
constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();

} // namespace

StreamOrder::~StreamOrder() {
    closing_.clear();
    abandoned_.clear();
    for (Shelf& shelf : shelves_) {
        shelf.last = nullptr;
        shelf.deferring.clear();
    }
    for (Shelf& shelf : shelves_)
        while (Ticket* const ticket = shelf.take_spare()) {
            if (!backend_.is_retired()) backend_.destroy_event(ticket->event);
            delete ticket;
        }
}

/// With the shelf's mutex held.
TicketRef StreamOrder::make(Shelf& from, std::uint64_t stream_id) {
    Ticket* ticket = from.take_spare();
    if (ticket == nullptr) {
        ticket = new Ticket;
        ticket->home = this;
    }
    ticket->stream_id = stream_id;
    ticket->wanted.store(false, relaxed);
    ticket->ended.store(never, relaxed);
    ticket->state.store(Ticket::State::open, relaxed);
    ticket->began = from.clock++;
    // Nobody else has it.
    ticket->references.store(1, relaxed);
    return TicketRef(ticket, false);
}

/// With the shelf's mutex held, so that one thread records.
void StreamOrder::record_now(Ticket& ticket, const StreamRef& stream) {
    if (ticket.event.handle == nullptr) {
        ticket.event = backend_.create_untimed_event();
        events_.fetch_add(1, relaxed);
    }
    backend_.record(ticket.event, stream.handle);
    ticket.ended.store(shelf(ticket.stream_id).clock++, relaxed);
    ticket.state.store(Ticket::State::recorded, std::memory_order_release);
}

TicketRef StreamOrder::record(const StreamRef& stream) {
    Shelf& own = shelf(stream.id);
    const std::lock_guard lock(own.mutex);
    return record_in(own, stream);
}

/// The stream's open ticket, or one of its own. With the shelf's mutex held.
TicketRef StreamOrder::record_in(Shelf& own, const StreamRef& stream) {
    Deferring* const found = own.find(stream.id);
    const bool is_open = found != nullptr && found->open != nullptr;
    TicketRef ticket = is_open ? found->open : make(own, stream.id);
    record_now(*ticket, stream);
    if (found != nullptr) {
        if (is_open) (void)closed(own, *found);
        if (found->eager_frees != 0) --found->eager_frees;
        if (found->is_idle()) own.erase(stream.id);
    }
    return ticket;
}

/// The stream's open ticket, for `bytes` more. With the shelf's mutex held.
TicketRef StreamOrder::open(Shelf& own, Deferring& deferring, std::uint64_t stream_id, std::size_t bytes) {
    if (deferring.open == nullptr) {
        deferring.open = make(own, stream_id);
        deferring.frees = 0;
        deferring.bytes = 0;
        deferring.refused = 0;
        deferring.opened = openings_.fetch_add(1, relaxed);
        open_tickets_.fetch_add(1, relaxed);
    }
    deferring.bytes += bytes;
    own.open_bytes.store(own.open_bytes.load(relaxed) + bytes, relaxed);
    return deferring.open;
}

/// Takes the open ticket away: it is recorded, or somebody else's to complete. With the shelf's mutex held.
TicketRef StreamOrder::closed(Shelf& own, Deferring& deferring) noexcept {
    open_tickets_.fetch_sub(1, relaxed);
    own.open_bytes.store(own.open_bytes.load(relaxed) - deferring.bytes, relaxed);
    return std::move(deferring.open);
}

TicketRef StreamOrder::defer(const StreamRef& stream, std::size_t bytes, Since since) {
    Shelf& own = shelf(stream.id);
    std::unique_lock lock(own.mutex);
    for (bool may_take_place = true;; may_take_place = false) {
        Deferring& deferring = own.find_or_make(stream.id);
        if (deferring.eager_frees != 0) break;
        if (since == Since::first && deferring.first_frees < first_frees_at_once) {
            ++deferring.first_frees;
            forget_idle(own, stream.id);
            break;
        }
        // A ticket that is open for nothing else would be recorded as soon as it is made.
        if (deferring.open == nullptr && bytes >= deferred_bytes) break;
        if (deferring.open != nullptr || open_tickets_.load(relaxed) < most_open_tickets) {
            TicketRef ticket = open(own, deferring, stream.id, bytes);
            if (++deferring.frees < deferred_frees && deferring.bytes < deferred_bytes / open_tickets_.load(relaxed) &&
                !ticket->wanted.load(relaxed))
                return ticket;
            break;
        }
        forget_idle(own, stream.id);
        if (++deferring.refused < frees_for_a_place || !may_take_place) break;
        deferring.refused = 1;
        lock.unlock();
        abandon_half();
        lock.lock();
    }
    return record_in(own, stream);
}

/// Entries of streams that came and went, when there are many. With the shelf's mutex held.
void StreamOrder::forget_idle(Shelf& own, std::uint64_t but_stream_id) noexcept {
    if (own.deferring.size() <= idle_entries) return;
    own.erase_if([&](const auto& entry) {
        return entry.first != but_stream_id && entry.second.open == nullptr && entry.second.eager_frees == 0;
    });
}

TicketRef StreamOrder::leave_open(std::uint64_t stream_id, std::size_t bytes) {
    Shelf& own = shelf(stream_id);
    const std::lock_guard lock(own.mutex);
    Deferring& deferring = own.find_or_make(stream_id);
    return open(own, deferring, stream_id, bytes);
}

void StreamOrder::record_open(const StreamRef& stream) {
    Shelf& own = shelf(stream.id);
    const std::lock_guard lock(own.mutex);
    Deferring* const found = own.find(stream.id);
    if (found == nullptr || found->open == nullptr) return;
    record_now(*found->open, stream);
    (void)closed(own, *found);
}

/// The streams whose tickets were opened longest ago lose their places, not their tickets.
void StreamOrder::abandon_half() {
    std::vector<std::uint64_t> openings;
    for (Shelf& shelf : shelves_) {
        const std::lock_guard lock(shelf.mutex);
        for (const auto& [id, deferring] : shelf.deferring)
            if (deferring.open != nullptr) openings.push_back(deferring.opened);
    }
    if (openings.size() < most_open_tickets / 2) return;
    const auto middle = openings.begin() + static_cast<std::ptrdiff_t>(openings.size() / 2);
    std::nth_element(openings.begin(), middle, openings.end());
    const std::lock_guard abandoning(abandoned_mutex_);
    abandoned_.reserve(abandoned_.size() + openings.size());
    for (Shelf& shelf : shelves_) {
        const std::lock_guard lock(shelf.mutex);
        for (auto& [id, deferring] : shelf.deferring)
            if (deferring.open != nullptr && deferring.opened <= *middle && abandoned_.size() < abandoned_.capacity()) {
                abandoned_.push_back(closed(shelf, deferring));
                abandoned_bytes_.fetch_add(deferring.bytes, relaxed);
            }
        shelf.erase_if([](const auto& entry) { return entry.second.is_idle(); });
    }
}

bool StreamOrder::close_all() {
    const std::lock_guard closing(closing_mutex_);
    const WaitPermit permit(backend_);
    if (!permit) return !has_open();
    // First out of the shelves: what is freed from now on gets another ticket. Then the wait covers all frees so far.
    for (Shelf& shelf : shelves_) {
        const std::lock_guard lock(shelf.mutex);
        for (auto& [id, deferring] : shelf.deferring)
            if (deferring.open != nullptr) {
                closing_.reserve(closing_.size() + 1); // before the ticket has left its place
                closing_.push_back(closed(shelf, deferring));
            }
        shelf.erase_if([](const auto& entry) { return entry.second.eager_frees == 0; });
    }
    {
        const std::lock_guard abandoning(abandoned_mutex_);
        closing_.insert(closing_.end(), abandoned_.begin(), abandoned_.end());
        abandoned_.clear();
        abandoned_bytes_.store(0, relaxed);
    }
    if (closing_.empty()) return true;
    closings_.fetch_add(1, relaxed);
    backend_.wait_idle();
    for (const TicketRef& ticket : closing_)
        ticket->state.store(Ticket::State::complete, std::memory_order_release);
    closing_.clear();
    return true;
}

/// With the mutex for closing held.
bool StreamOrder::has_open() {
    const std::lock_guard abandoning(abandoned_mutex_);
    return open_tickets_.load(relaxed) != 0 || !abandoned_.empty() || !closing_.empty();
}

void StreamOrder::stop_deferring(std::uint64_t stream_id) {
    Shelf& its = shelf(stream_id);
    const std::lock_guard lock(its.mutex);
    its.find_or_make(stream_id).eager_frees = eager_frees;
}

Dependencies StreamOrder::freed_on(const StreamRef& stream, std::size_t bytes, std::uint64_t allocation_stream_id,
                                   Dependencies since_allocation) {
    if (stream.id == allocation_stream_id)
        return Dependencies(freed_on_own(stream, bytes, since_allocation.sole_stream() == stream.id));
    if (settle(since_allocation, stream.id)) return Dependencies(record(stream));
    since_allocation.add(record(stream));
    return since_allocation;
}

TicketRef StreamOrder::freed_on_as_one(const StreamRef& stream, std::size_t bytes, std::uint64_t allocation_stream_id,
                                       Dependencies since_allocation) {
    if (stream.id == allocation_stream_id)
        return freed_on_own(stream, bytes, since_allocation.sole_stream() == stream.id);
    if (!settle(since_allocation, stream.id)) wait_on_device(stream, since_allocation);
    return record(stream);
}

void StreamOrder::recycle(Ticket* ticket) noexcept { shelf(ticket->stream_id).give_back(*ticket); }

bool StreamOrder::is_complete(Ticket& ticket, std::uint64_t asking_stream_id) {
    switch (ticket.state.load(std::memory_order_acquire)) {
    case Ticket::State::complete:
        return true;
    case Ticket::State::open:
        if (ticket.stream_id != asking_stream_id) ticket.wanted.store(true, relaxed);
        return false;
    case Ticket::State::recorded:
        break;
    }
    if (!backend_.is_complete(ticket.event)) return false;
    ticket.state.store(Ticket::State::complete, std::memory_order_release);
    return true;
}

bool StreamOrder::settle(Dependencies& dependencies, std::uint64_t asking_stream_id) {
    dependencies.remove_if([&](const TicketRef& ticket) { return is_complete(*ticket, asking_stream_id); });
    return dependencies.empty();
}

void StreamOrder::wait_on_device(const StreamRef& stream, const Dependencies& dependencies) {
    dependencies.for_each([&](const TicketRef& ticket) {
        if (ticket->stream_id == stream.id) return;
        if (ticket->state.load(std::memory_order_acquire) == Ticket::State::open) {
            stop_deferring(ticket->stream_id);
            (void)close_all();
            if (ticket->state.load(std::memory_order_acquire) == Ticket::State::open) throw OutOfReach();
        }
        if (ticket->state.load(std::memory_order_acquire) == Ticket::State::complete) return;
        backend_.wait(stream.handle, ticket->event);
        device_waits_.fetch_add(1, relaxed);
    });
}

void StreamOrder::wait_on_host(const Dependencies& dependencies) {
    dependencies.for_each([&](const TicketRef& ticket) {
        if (ticket->state.load(std::memory_order_acquire) == Ticket::State::open) close_all();
        if (ticket->state.load(std::memory_order_acquire) != Ticket::State::recorded) return;
        backend_.synchronize(ticket->event);
        ticket->state.store(Ticket::State::complete, std::memory_order_release);
    });
}

} // namespace cuda_zstd::detail
