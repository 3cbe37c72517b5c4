// SPDX-License-Identifier: MIT
// Which work a free block still waits for.
//
// Invariant: a block carries, for each stream that may still use it, a ticket of that stream that is recorded after its
// last use was submitted, or is open and will be; it carries it before another thread can see the block, and an open
// ticket counts as incomplete.
// Merging two blocks unites their tickets and drops one only for another of the same stream that is surely later.
// Streams are told apart by the backend's ids: handles are recycled.
#pragma once

#include "cuda_zstd/host/backend.hpp"
#include "cuda_zstd/host/quick_mutex.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace cuda_zstd::detail {

class StreamOrder;

/// Whether the pool may use a stream outside of a call that names it.
enum class StreamLife : std::uint8_t {
    unknown,
    registered,
    /// Its work goes into a graph now.
    captured,
};

/// A stream as the pool sees it.
struct StreamRef {
    cudaStream_t handle = nullptr;
    std::uint64_t id = 0;
    StreamLife life = StreamLife::unknown;
};

/// A point of one stream, shared by the blocks that were freed there before it.
struct Ticket {
    enum class State : std::uint8_t {
        /// The point is still to come: no event yet. It covers every free that has got the ticket so far.
        open,
        recorded,
        complete,
    };
    std::atomic<std::uint32_t> references{0};
    std::atomic<State> state{State::open};
    /// Another stream would like the memory: the next free on this one records.
    std::atomic<bool> wanted{false};
    std::uint64_t stream_id = 0;
    /// The shelf's clock before and after the record: of two tickets of a stream, the one that began after the other
    /// had ended covers it. Neither covers the other where each began before the other had ended.
    std::uint64_t began = 0;
    std::atomic<std::uint64_t> ended{0};
    BackendEvent event;
    StreamOrder* home = nullptr;
    /// While nobody has it: a ticket goes back without memory.
    Ticket* next_spare = nullptr;
};
/// Nobody has the ticket any more.
void recycle_ticket(Ticket* ticket) noexcept;
inline void intrusive_ptr_add_ref(Ticket* ticket) noexcept {
    ticket->references.fetch_add(1, std::memory_order_relaxed);
}
inline void intrusive_ptr_release(Ticket* ticket) noexcept {
    if (ticket->references.fetch_sub(1, std::memory_order_acq_rel) == 1) recycle_ticket(ticket);
}
using TicketRef = boost::intrusive_ptr<Ticket>;

/// Releases a ticket that many blocks in a row had with one atomic operation.
class TicketReleases {
public:
    TicketReleases() = default;
    ~TicketReleases() { flush(); }
    TicketReleases(const TicketReleases&) = delete;
    TicketReleases& operator=(const TicketReleases&) = delete;

    void add(TicketRef ticket) noexcept {
        if (ticket == nullptr) return;
        if (ticket.get() != ticket_) {
            flush();
            ticket_ = ticket.get();
        }
        (void)ticket.detach();
        ++count_;
    }

private:
    void flush() noexcept {
        if (count_ == 0) return;
        // The last one is what may bring the ticket back to its shelf.
        if (count_ != 1) ticket_->references.fetch_sub(count_ - 1, std::memory_order_acq_rel);
        intrusive_ptr_release(ticket_);
        count_ = 0;
    }
    Ticket* ticket_ = nullptr;
    std::uint32_t count_ = 0;
};

/// The tickets of one block: one for each stream, as a rule, so the first is kept in place.
class Dependencies {
public:
    Dependencies() = default;
    explicit Dependencies(TicketRef ticket) : first_(std::move(ticket)) {}
    Dependencies(const Dependencies& other)
        : first_(other.first_), more_(other.more_ ? std::make_unique<std::vector<TicketRef>>(*other.more_) : nullptr) {}
    Dependencies(Dependencies&&) noexcept = default;
    Dependencies& operator=(Dependencies other) noexcept {
        first_.swap(other.first_);
        more_.swap(other.more_);
        return *this;
    }
    ~Dependencies() = default;

    bool empty() const noexcept { return first_ == nullptr; }
    /// As far as is known: no query.
    bool complete() const noexcept {
        bool all = true;
        for_each([&](const TicketRef& ticket) {
            all &= ticket->state.load(std::memory_order_acquire) == Ticket::State::complete;
        });
        return all;
    }
    /// Whether a ticket is still to be recorded.
    bool has_open() const noexcept {
        bool any = false;
        for_each([&](const TicketRef& ticket) {
            any |= ticket->state.load(std::memory_order_acquire) == Ticket::State::open;
        });
        return any;
    }
    std::size_t size() const noexcept { return first_ == nullptr ? 0 : 1 + (more_ ? more_->size() : 0); }
    /// Not of an empty one.
    const TicketRef& front() const noexcept { return first_; }
    /// Takes the ticket of one that has no other.
    TicketRef take_sole() noexcept { return std::move(first_); }
    void clear() noexcept;
    /// The same; the first ticket is released later.
    void clear(TicketReleases& releases) noexcept {
        releases.add(std::move(first_));
        more_.reset();
    }
    /// O(tickets).
    void add(const TicketRef& ticket);
    void add(const Dependencies& others);
    /// The same, with nothing counted where one ticket takes the place of another.
    void add(Dependencies&& others);
    /// The stream, when all tickets are of one.
    std::optional<std::uint64_t> sole_stream() const noexcept;
    template <class Visit>
    void for_each(const Visit& visit) const {
        if (first_ != nullptr) visit(first_);
        if (more_ == nullptr) return;
        for (const TicketRef& ticket : *more_)
            visit(ticket);
    }
    /// Drops the tickets that `drops` is true for.
    template <class Drops>
    void remove_if(const Drops& drops) {
        if (more_ != nullptr && std::erase_if(*more_, drops) != 0 && more_->empty()) more_.reset();
        if (first_ == nullptr || !drops(first_)) return;
        first_.reset();
        if (more_ == nullptr) return;
        first_ = std::move(more_->back());
        more_->pop_back();
        if (more_->empty()) more_.reset();
    }

private:
    TicketRef first_;
    /// Not empty where it is there.
    std::unique_ptr<std::vector<TicketRef>> more_;
};

/// Memory waits for a stream that has to be waited for with all others, which a capture forbids.
class OutOfReach final : public std::exception {
public:
    const char* what() const noexcept override { return "a capture forbids to wait for the stream's work"; }
};

/// Makes tickets, asks for them and waits for them. Members may be called from any thread.
class StreamOrder {
public:
    explicit StreamOrder(Backend& backend) : backend_(backend) {}
    /// No ticket may live any more.
    ~StreamOrder();
    StreamOrder(const StreamOrder&) = delete;
    StreamOrder& operator=(const StreamOrder&) = delete;

    Backend& backend() const noexcept { return backend_; }
    /// Of who asks for tickets on no stream's behalf.
    static constexpr std::uint64_t no_stream = ~std::uint64_t{0};
    /// A ticket for all work that the stream holds now. One event record.
    TicketRef record(const StreamRef& stream);
    /// A ticket that will be recorded on the stream after its present work: at the latest by the 32nd free or 64 MiB
    /// that get it, or by the next free after another stream asked. So a stream that uses the same blocks again and
    /// again makes one event for many frees. What is still open when no further free comes is closed by close_all();
    /// till then it is out of other streams' reach, so at most 64 streams defer at once, and n of them record by the
    /// 64/n-th MiB. A stream that keeps on freeing when there are 64 takes the place of the half whose tickets are
    /// oldest, which may be gone: their tickets stay open, and open_bytes() tells when to close them.
    TicketRef defer(const StreamRef& stream, std::size_t bytes) { return defer(stream, bytes, Since::returning); }
    /// The stream's open ticket, for frees of the past: for who may not touch the stream, which may be gone by now. No
    /// driver call. The ticket is recorded by the stream's next free that is, or completed by close_all().
    TicketRef leave_open(std::uint64_t stream_id, std::size_t bytes);
    /// Records the stream's open ticket, if it has one.
    void record_open(const StreamRef& stream);
    /// What a block of `bytes` waits for that is freed on `stream` now. The stream's own ticket covers what the block
    /// waited for when it was allocated only where it was allocated on this stream; `since_allocation` is what must be
    /// kept if not. The ticket is deferred for a block that the stream has got from itself before, and for any block
    /// once the stream has recorded 16 frees: one event for 32 of them.
    Dependencies freed_on(const StreamRef& stream, std::size_t bytes, std::uint64_t allocation_stream_id,
                          Dependencies since_allocation);
    /// The same as one ticket: the stream is made to wait for what must be kept.
    TicketRef freed_on_as_one(const StreamRef& stream, std::size_t bytes, std::uint64_t allocation_stream_id,
                              Dependencies since_allocation);
    /// The same of a block that was allocated on this stream, whose ticket covers what must be kept. `has_returned`
    /// says whether all that the block waited for was this stream's.
    TicketRef freed_on_own(const StreamRef& stream, std::size_t bytes, bool has_returned) {
        return defer(stream, bytes, has_returned ? Since::returning : Since::first);
    }
    /// Completes the open tickets, by waiting for all streams: theirs may be gone, so nothing can be recorded there.
    /// False where a capture forbids that: then they are as they were.
    bool close_all();
    /// Whether close_all() may wait now.
    bool may_close() { return !backend_.captures_go_on(); }
    /// One event query; none for an open ticket, and none once it was complete. An open one is asked for, unless it is
    /// that of the stream that asks: its next free need not record for that.
    bool is_complete(Ticket& ticket, std::uint64_t asking_stream_id = no_stream);
    /// Drops completed tickets; true when none is left.
    bool settle(Dependencies& dependencies, std::uint64_t asking_stream_id = no_stream);
    /// Work that `stream` gets from now on runs after the dependencies. One wait for each ticket of another stream;
    /// where one is open, the caller waits for all streams, and that stream defers no more for the next 1,024 frees.
    /// Throws `OutOfReach` where a capture forbids that.
    void wait_on_device(const StreamRef& stream, const Dependencies& dependencies);
    /// The caller waits; for what is open only where no capture forbids it.
    void wait_on_host(const Dependencies& dependencies);

    std::uint64_t device_waits() const noexcept { return device_waits_.load(std::memory_order_relaxed); }
    /// Times that open tickets were completed by waiting for all streams.
    std::uint64_t closings() const noexcept { return closings_.load(std::memory_order_relaxed); }
    /// Bytes behind open tickets, out of other streams' reach; those of a block for each time that it was freed.
    std::size_t open_bytes() const noexcept {
        std::size_t bytes = abandoned_bytes_.load(std::memory_order_relaxed);
        for (const Shelf& shelf : shelves_)
            bytes += shelf.open_bytes.load(std::memory_order_relaxed);
        return bytes;
    }
    /// Tickets whose event exists, in use or spare.
    std::size_t events() const noexcept { return events_.load(std::memory_order_relaxed); }

private:
    /// How a block came to the stream that frees it.
    enum class Since : std::uint8_t { returning, first };
    TicketRef defer(const StreamRef& stream, std::size_t bytes, Since since);
    friend void recycle_ticket(Ticket* ticket) noexcept;
    /// What is known of a stream that defers, or may not.
    struct Deferring {
        TicketRef open;
        unsigned frees = 0;
        std::size_t bytes = 0;
        unsigned eager_frees = 0;
        /// First frees that were recorded at once.
        unsigned first_frees = 0;
        /// Frees that were recorded since 64 others defer.
        unsigned refused = 0;
        /// When, for who must go.
        std::uint64_t opened = 0;
        bool is_idle() const noexcept {
            return open == nullptr && eager_frees == 0 && refused == 0 && first_frees == 0;
        }
    };
    struct alignas(64) Shelf {
        QuickMutex mutex;
        /// Of this shelf's streams: moves with the mutex held.
        std::uint64_t clock = 1;
        /// Tickets that nobody has: those that were given back, also with the mutex held, and those that were fetched
        /// from there, all at once.
        std::atomic<Ticket*> given_back{nullptr};
        Ticket* spare = nullptr;
        /// Behind the open tickets of the streams below. Written with the mutex held.
        std::atomic<std::size_t> open_bytes{0};
        /// The stream that was looked up last; null after any was erased.
        std::uint64_t last_stream_id = 0;
        Deferring* last = nullptr;
        std::unordered_map<std::uint64_t, Deferring> deferring;

        void give_back(Ticket& ticket) noexcept {
            ticket.next_spare = given_back.load(std::memory_order_relaxed);
            while (!given_back.compare_exchange_weak(ticket.next_spare, &ticket, std::memory_order_release,
                                                     std::memory_order_relaxed)) {
            }
        }
        /// With the mutex held, or at the end.
        Ticket* take_spare() noexcept {
            if (spare == nullptr) spare = given_back.exchange(nullptr, std::memory_order_acquire);
            return spare == nullptr ? nullptr : std::exchange(spare, spare->next_spare);
        }
        Deferring* find(std::uint64_t stream_id) noexcept {
            if (last != nullptr && last_stream_id == stream_id) return last;
            const auto found = deferring.find(stream_id);
            if (found == deferring.end()) return nullptr;
            last_stream_id = stream_id;
            return last = &found->second;
        }
        Deferring& find_or_make(std::uint64_t stream_id) {
            if (Deferring* found = find(stream_id)) return *found;
            last = &deferring[stream_id];
            last_stream_id = stream_id;
            return *last;
        }
        void erase(std::uint64_t stream_id) noexcept {
            last = nullptr;
            deferring.erase(stream_id);
        }
        template <class Forgets>
        void erase_if(const Forgets& forgets) noexcept {
            last = nullptr;
            std::erase_if(deferring, forgets);
        }
    };
    Shelf& shelf(std::uint64_t stream_id) { return shelves_[stream_id % shelves_.size()]; }
    TicketRef make(Shelf& from, std::uint64_t stream_id);
    TicketRef record_in(Shelf& own, const StreamRef& stream);
    void record_now(Ticket& ticket, const StreamRef& stream);
    void stop_deferring(std::uint64_t stream_id);
    TicketRef open(Shelf& own, Deferring& deferring, std::uint64_t stream_id, std::size_t bytes);
    TicketRef closed(Shelf& own, Deferring& deferring) noexcept;
    void abandon_half();
    bool has_open();
    static void forget_idle(Shelf& own, std::uint64_t but_stream_id) noexcept;
    void recycle(Ticket* ticket) noexcept;

    Backend& backend_;
    /// Of tickets, for their order in time.
    std::atomic<std::uint64_t> openings_{0};
    std::atomic<std::uint64_t> device_waits_{0};
    std::atomic<std::uint64_t> closings_{0};
    std::atomic<std::size_t> events_{0};
    /// Those of the shelves' deferring streams. At least 1 while one of them is open.
    std::atomic<unsigned> open_tickets_{0};
    std::mutex closing_mutex_;
    /// Taken out of the shelves to be completed; guarded by closing_mutex_.
    std::vector<TicketRef> closing_;
    std::mutex abandoned_mutex_;
    std::vector<TicketRef> abandoned_;
    /// Written with the mutex held.
    std::atomic<std::size_t> abandoned_bytes_{0};
    std::array<Shelf, 16> shelves_;
};

} // namespace cuda_zstd::detail
