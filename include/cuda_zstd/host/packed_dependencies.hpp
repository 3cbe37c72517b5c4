// SPDX-License-Identifier: MIT
// What a block waits for, in 48 bits of a word, with 16 bits for whoever keeps it there.
//
// Invariant: the 48 bits are 0, or a ticket that is counted, or, with the lowest bit set, the address of dependencies
// on the heap: those of several tickets, which are rare.
#pragma once

#include "cuda_zstd/host/stream_order.hpp"

#include <cstdint>
#include <memory>
#include <utility>

namespace cuda_zstd::detail {

class PackedDependencies {
public:
    PackedDependencies() = default;
    ~PackedDependencies() { release(); }
    PackedDependencies(const PackedDependencies&) = delete;
    PackedDependencies& operator=(const PackedDependencies&) = delete;

    bool empty() const noexcept { return (word_ & pointer_mask) == 0; }
    /// Takes all of them. Of an empty one. May throw std::bad_alloc where there are several tickets, which stay then.
    void take(Dependencies& from) {
        if (from.size() > 1) {
            auto several = std::make_unique<Dependencies>();
            *several = std::move(from);
            word_ |= address_of(several.release()) | several_mark;
        } else {
            word_ |= address_of(from.take_sole().detach());
        }
    }
    /// A copy. May throw std::bad_alloc where there are several tickets.
    Dependencies get() const {
        if (empty()) return {};
        return has_several() ? *several() : Dependencies(TicketRef(ticket()));
    }
    /// Whether there are any, all of this stream.
    bool are_of(std::uint64_t stream_id) const noexcept {
        if (empty()) return false;
        return has_several() ? several()->sole_stream() == stream_id : ticket()->stream_id == stream_id;
    }
    template <class Visit>
    void for_each(const Visit& visit) const {
        if (empty()) return;
        if (has_several())
            several()->for_each(visit);
        else
            visit(TicketRef(ticket()));
    }
    /// Exchanges the dependencies, not what is kept beside them.
    void swap(PackedDependencies& other) noexcept {
        const std::uint64_t difference = (word_ ^ other.word_) & pointer_mask;
        word_ ^= difference;
        other.word_ ^= difference;
    }
    void clear() noexcept {
        release();
        word_ &= ~pointer_mask;
    }

    std::uint16_t beside() const noexcept { return static_cast<std::uint16_t>(word_ >> pointer_bits); }
    void set_beside(std::uint16_t value) noexcept {
        word_ = (word_ & pointer_mask) | static_cast<std::uint64_t>(value) << pointer_bits;
    }

private:
    static constexpr unsigned pointer_bits = 48;
    static constexpr std::uint64_t pointer_mask = (std::uint64_t{1} << pointer_bits) - 1;
    static constexpr std::uint64_t several_mark = 1;

    static std::uint64_t address_of(const void* pointer) noexcept { return reinterpret_cast<std::uintptr_t>(pointer); }
    bool has_several() const noexcept { return (word_ & several_mark) != 0; }
    Ticket* ticket() const noexcept { return reinterpret_cast<Ticket*>(word_ & pointer_mask); }
    Dependencies* several() const noexcept {
        return reinterpret_cast<Dependencies*>(word_ & pointer_mask & ~several_mark);
    }
    void release() noexcept {
        if (empty()) return;
        if (has_several())
            delete several();
        else
            intrusive_ptr_release(ticket());
    }

    std::uint64_t word_ = 0;
};

} // namespace cuda_zstd::detail
