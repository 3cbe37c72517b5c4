// SPDX-License-Identifier: MIT
#include "thread_cache.hpp"

#include <algorithm>
#include <utility>

namespace cuda_zstd::detail {
namespace {

/// By which a stream shows that it goes on.
constexpr unsigned frees_for_a_place = 32;

} // namespace

/// The magazine's stream has none any more.
void ThreadCache::leave_count(Magazine& magazine) noexcept {
    if (!magazine.count.empty()) shared_.streams.add(magazine.stream_id, magazine.count);
    magazine.count = {};
}

void ThreadCache::leave_counts() noexcept {
    for (auto& magazine : magazines_)
        if (magazine != nullptr) leave_count(*magazine);
}

/// A magazine for a stream that has none: a new one, or the empty one that was used longest ago; null where there is
/// none.
Magazine* ThreadCache::assign(std::uint64_t stream_id) {
    unsigned at = most_magazines;
    for (unsigned i = 0; i < most_magazines; ++i) {
        if (magazines_[i] == nullptr) {
            magazines_[i] = std::make_unique<Magazine>();
            at = i;
            break;
        }
        if (magazines_[i]->bytes() == 0 && (at == most_magazines || magazines_[i]->last_use < magazines_[at]->last_use))
            at = i;
    }
    if (at == most_magazines) return nullptr;
    Magazine* magazine = magazines_[at].get();
    // What its stream left open, another free of that stream may record; this thread has no more to do with it.
    magazine->open.reset();
    magazine->refused = 0;
    leave_count(*magazine);
    magazine->stream_id = stream_ids_[at] = stream_id;
    return magazine;
}

ThreadCache::Room ThreadCache::make_room(const BlockRecord& record, std::uint64_t stream_id, Leaving& leaving,
                                         Known& known) {
    Magazine* magazine = find(stream_id);
    if (magazine == nullptr) magazine = assign(stream_id);
    // Sizes that come once would push out those that come again.
    const std::size_t room_bytes = shared_.most_bytes - std::min(cached_bytes(), shared_.most_bytes);
    const bool fits = record.usable_bytes() <= room_bytes;
    if (magazine != nullptr && known == Known::to_be_asked && !magazine->expects(record, room_bytes))
        known = Known::has_no_place;
    if (magazine != nullptr && known == Known::has_no_place) {
        if (!fits || shared_.most_passing == 0) return Room::refused;
        if (magazine->passing() < shared_.most_passing) return Room::passes;
        leaving = pass_on(stream_id);
        return Room::leaving;
    }
    if (magazine == nullptr || !fits) {
        // Its own blocks may always leave; of the others' magazines the one that was used longest ago.
        if (magazine != nullptr && magazine->bytes() >= record.usable_bytes()) {
            leaving = take_all(stream_id);
            return Room::leaving;
        }
        if (magazine == nullptr && std::exchange(refused_stream_, stream_id) != stream_id) refused_ = 0;
        unsigned& refused = magazine == nullptr ? refused_ : magazine->refused;
        if (++refused < frees_for_a_place) return Room::refused;
        unsigned at = most_magazines;
        for (unsigned i = 0; i < most_magazines; ++i)
            if (magazines_[i] != nullptr && magazines_[i]->bytes() != 0 &&
                (at == most_magazines || magazines_[i]->last_use < magazines_[at]->last_use))
                at = i;
        if (at == most_magazines) return Room::refused;
        leaving = take_all(at);
        return Room::leaving;
    }
    magazine->refused = 0;
    magazine->last_use = ++uses_;
    if (magazine->open != nullptr && magazine->open->state.load(std::memory_order_relaxed) != Ticket::State::open)
        magazine->open.reset();
    leaving = {magazine->make_room(record), stream_id};
    set_cached(cached_bytes() - leaving.chain.bytes);
    return leaving.chain.head == nullptr ? Room::made : Room::leaving;
}

ThreadCache::Leaving ThreadCache::take_all(unsigned at) noexcept {
    const Chain chain = magazines_[at]->take_all();
    set_cached(cached_bytes() - chain.bytes);
    return {chain, magazines_[at]->stream_id};
}

ThreadCache::Leaving ThreadCache::take_all() noexcept {
    for (unsigned i = 0; i < most_magazines && cached_bytes() != 0; ++i) {
        if (magazines_[i] == nullptr) continue;
        const Leaving leaving = take_all(i);
        if (leaving.chain.head != nullptr) return leaving;
    }
    return {};
}

ThreadCache::Leaving ThreadCache::take_all(std::uint64_t stream_id) noexcept {
    return find(stream_id) == nullptr ? Leaving{} : take_all(last_);
}

ThreadCache::Leaving ThreadCache::pass_on(std::uint64_t stream_id) noexcept {
    Magazine* magazine = find(stream_id);
    if (magazine == nullptr) return {};
    const Chain chain = magazine->pass_on();
    set_cached(cached_bytes() - chain.bytes);
    return {chain, stream_id};
}

void ThreadCache::forget_blocks() noexcept {
    leave_counts();
    for (auto& magazine : magazines_)
        magazine.reset();
    stream_ids_ = filled();
    set_cached(0);
}

} // namespace cuda_zstd::detail
