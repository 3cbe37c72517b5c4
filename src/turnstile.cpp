// SPDX-License-Identifier: MIT
#include "turnstile.hpp"

#include <utility>

namespace cuda_zstd::detail {
namespace {

constexpr std::size_t no_place = Turnstile::gate_count;

/// Places that belong to a thread, in every turnstile.
constinit std::array<std::atomic<bool>, Turnstile::gate_count> owned{};

} // namespace

constinit thread_local std::size_t Turnstile::place_ = not_asked;

std::size_t Turnstile::claim_place() noexcept {
    /// What the thread does after this has ended goes by the mutexes.
    struct Owner {
        ~Owner() {
            const std::size_t place = std::exchange(place_, no_place);
            if (place < no_place) owned[place].store(false, std::memory_order_release);
        }
    };
    place_ = no_place;
    for (std::size_t place = 0; place < no_place; ++place) {
        if (owned[place].load(std::memory_order_relaxed)) continue;
        if (owned[place].exchange(true, std::memory_order_acquire)) continue;
        static thread_local const Owner owner;
        place_ = place;
        break;
    }
    return place_;
}

std::shared_mutex& Turnstile::enter_shared() {
    static std::atomic<std::size_t> threads{0};
    thread_local const std::size_t mine = threads.fetch_add(1, std::memory_order_relaxed) % gate_count;
    if (alone_.load(std::memory_order_relaxed) != 0) const std::lock_guard wait(alone_mutex_);
    std::shared_mutex& mutex = gates_[mine].mutex;
    mutex.lock_shared();
    return mutex;
}

} // namespace cuda_zstd::detail
