// SPDX-License-Identifier: MIT
// Which work a free block still waits for.
//
// Invariant: a ticket is recorded before the block that carries it can be seen by another thread, and a block
// carries, for each stream that may still use it, a ticket recorded on that stream after its last use was submitted.
// Merging two blocks unites their tickets and drops one only for another of the same stream that is surely later.
// Streams are told apart by the backend's ids: handles are recycled.
#pragma once

#include "cuda_zstd/host/backend.hpp"

#include <boost/smart_ptr/intrusive_ptr.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace cuda_zstd::detail {

class StreamOrder;

/// A stream as the pool sees it.
struct StreamRef {
    cudaStream_t handle = nullptr;
    std::uint64_t id = 0;
};

/// A recorded point of one stream, shared by the blocks that were freed there.
struct Ticket {
    std::atomic<std::uint32_t> references{0};
    std::atomic<bool> complete{false};
    std::uint64_t stream_id = 0;
    /// The clock of all tickets before and after the record: of two tickets of a stream, the one that began after
    /// the other had ended covers it. Neither covers the other when two threads recorded at once.
    std::uint64_t began = 0;
    std::uint64_t ended = 0;
    BackendEvent event;
    StreamOrder* home = nullptr;
};
void intrusive_ptr_add_ref(Ticket* ticket) noexcept;
void intrusive_ptr_release(Ticket* ticket) noexcept;
using TicketRef = boost::intrusive_ptr<Ticket>;

/// The tickets of one block: one for each stream, as a rule, so the first is kept in place.
class Dependencies {
public:
    Dependencies() = default;
    explicit Dependencies(TicketRef ticket) : first_(std::move(ticket)) {}

    bool empty() const noexcept { return first_ == nullptr; }
    std::size_t size() const noexcept { return first_ == nullptr ? 0 : 1 + more_.size(); }
    /// Not of an empty one.
    const TicketRef& front() const noexcept { return first_; }
    void clear() noexcept;
    /// O(tickets).
    void add(const TicketRef& ticket);
    void add(const Dependencies& others);
    /// The stream, when all tickets are of one.
    std::optional<std::uint64_t> sole_stream() const noexcept;
    template <class Visit>
    void for_each(const Visit& visit) const {
        if (first_ != nullptr) visit(first_);
        for (const TicketRef& ticket : more_)
            visit(ticket);
    }
    /// Drops the tickets that `drops` is true for.
    template <class Drops>
    void remove_if(const Drops& drops) {
        std::erase_if(more_, drops);
        if (first_ == nullptr || !drops(first_)) return;
        first_.reset();
        if (more_.empty()) return;
        first_ = std::move(more_.back());
        more_.pop_back();
    }

private:
    TicketRef first_;
    std::vector<TicketRef> more_;
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
    /// A ticket for all work that the stream holds now. One event record.
    TicketRef record(const StreamRef& stream);
    /// What a block waits for that is freed on `stream` now. The stream's own ticket covers what the block waited for
    /// when it was allocated only where it was allocated on this stream; `since_allocation` is what must be kept if
    /// not.
    Dependencies freed_on(const StreamRef& stream, std::uint64_t allocation_stream_id, Dependencies since_allocation);
    /// The same as one ticket: the stream is made to wait for what must be kept.
    TicketRef freed_on_as_one(const StreamRef& stream, std::uint64_t allocation_stream_id,
                              Dependencies since_allocation);
    /// One event query, none once it was complete.
    bool is_complete(Ticket& ticket);
    /// Drops completed tickets; true when none is left.
    bool settle(Dependencies& dependencies);
    /// Work that `stream` gets from now on runs after the dependencies. One wait for each ticket of another stream.
    void wait_on_device(const StreamRef& stream, const Dependencies& dependencies);
    /// The caller waits.
    void wait_on_host(const Dependencies& dependencies);

    std::uint64_t device_waits() const noexcept { return device_waits_.load(std::memory_order_relaxed); }
    /// Tickets whose event exists, in use or spare.
    std::size_t events() const noexcept { return events_.load(std::memory_order_relaxed); }

private:
    friend void intrusive_ptr_release(Ticket* ticket) noexcept;
    struct alignas(64) Shelf {
        std::mutex mutex;
        std::vector<Ticket*> spare;
    };
    Shelf& shelf(std::uint64_t stream_id) { return shelves_[stream_id % shelves_.size()]; }
    void recycle(Ticket* ticket) noexcept;

    Backend& backend_;
    std::atomic<std::uint64_t> clock_{1};
    std::atomic<std::uint64_t> device_waits_{0};
    std::atomic<std::size_t> events_{0};
    std::array<Shelf, 16> shelves_;
};

} // namespace cuda_zstd::detail
