// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/stream_order.hpp"

#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;

} // namespace

void recycle_ticket(Ticket* ticket) noexcept { ticket->home->recycle(ticket); }

void Dependencies::clear() noexcept {
    first_.reset();
    more_.reset();
}

void Dependencies::add(const TicketRef& ticket) {
    // As a rule: the only ticket, or the stream's next one.
    if (first_ == ticket) return;
    if (more_ == nullptr && first_ != nullptr && first_->stream_id == ticket->stream_id) {
        if (first_->began > ticket->ended.load(relaxed)) return;
        if (first_->ended.load(relaxed) < ticket->began) {
            first_ = ticket;
            return;
        }
    }
    bool covered = false;
    for_each([&](const TicketRef& present) {
        covered |= present == ticket ||
                   (present->stream_id == ticket->stream_id && present->began > ticket->ended.load(relaxed));
    });
    if (covered) return;
    if (first_ == nullptr) {
        first_ = ticket;
        return;
    }
    // What may throw comes before anything is dropped.
    if (more_ == nullptr)
        more_ = std::make_unique<std::vector<TicketRef>>(std::size_t{1}, ticket);
    else
        more_->push_back(ticket);
    remove_if([&](const TicketRef& present) {
        return present != ticket && present->stream_id == ticket->stream_id &&
               present->ended.load(relaxed) < ticket->began;
    });
}

void Dependencies::add(const Dependencies& others) {
    others.for_each([this](const TicketRef& ticket) { add(ticket); });
}

void Dependencies::add(Dependencies&& others) {
    if (others.first_ == nullptr || first_ == others.first_) {
        if (others.more_ == nullptr) return;
    } else if (first_ == nullptr) {
        *this = std::move(others);
        return;
    } else if (more_ == nullptr && others.more_ == nullptr && first_->stream_id == others.first_->stream_id &&
               first_->ended.load(relaxed) < others.first_->began) {
        first_ = std::move(others.first_);
        return;
    }
    add(std::as_const(others));
}

std::optional<std::uint64_t> Dependencies::sole_stream() const noexcept {
    if (first_ == nullptr) return std::nullopt;
    if (more_ != nullptr)
        for (const TicketRef& ticket : *more_)
            if (ticket->stream_id != first_->stream_id) return std::nullopt;
    return first_->stream_id;
}

} // namespace cuda_zstd::detail
