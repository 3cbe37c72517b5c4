// SPDX-License-Identifier: MIT
// The environment of a lane of the modelled card: each access takes its time there.
#pragma once

#include "card.hpp"

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/env/atom.hpp"
#include "cuda_zstd/env/environment.hpp"

namespace bench {

class card_env {
    using LaneMask = cuda_zstd::LaneMask;
    using Order = cuda_zstd::Order;
    using Site = Card::Site;
    using Collective = Card::Collective;

public:
    template <class T>
    using atom = cuda_zstd::Atom<T>;
    static constexpr unsigned warp_lanes = Card::warp_lanes;

    explicit card_env(Card& card) : card_(&card) {}

    unsigned lane() const { return card_->lane() % warp_lanes; }
    LaneMask lanes_before() const { return cuda_zstd::low_bits(lane()); }
    unsigned processor() const { return card_->processor(); }
    LaneMask match_any(LaneMask mask, std::uint32_t value) const {
        return static_cast<LaneMask>(card_->arrive(Collective::match_any, mask, value, 0));
    }
    LaneMask ballot(LaneMask mask, bool predicate) const {
        return static_cast<LaneMask>(card_->arrive(Collective::ballot, mask, predicate ? 1 : 0, 0));
    }
    template <class T>
    T shfl(LaneMask mask, T value, unsigned source) const {
        return static_cast<T>(card_->arrive(Collective::shfl, mask, value, source));
    }
    void sync(LaneMask mask) const { card_->arrive(Collective::sync, mask, 0, 0); }
    std::uint32_t reduce_or(LaneMask mask, std::uint32_t value) const {
        return static_cast<std::uint32_t>(card_->arrive(Collective::reduce_or, mask, value, 0));
    }
    /// As long as cuda_env's.
    void pause(unsigned attempt, Site site = Site::current()) const {
        card_->spend((attempt < 8 ? 32u << attempt : 4096u) * 1e-3, site);
    }

    std::uint32_t load_word(const std::uint32_t& word, Order) const { return word; }
    void store_word(std::uint32_t& word, std::uint32_t value, Order) const { word = value; }
    template <class T>
    T load(const atom<T>& a, Order order, Site site = Site::current()) const {
        const double us = card_->times().load + (acquires(order) ? 2 * card_->times().acquire : 0);
        return card_->access(
            us, [&] { return a.value; }, site);
    }
    template <class T>
    void store(atom<T>& a, T value, Order order, Site site = Site::current()) const {
        if (releases(order)) card_->fence();
        a.value = value;
        card_->spend(card_->times().store, site);
    }
    template <class T>
    T exchange(atom<T>& a, T value, Order order, Site site = Site::current()) const {
        return modify(a, order, site, [&](T) { return value; });
    }
    template <class T>
    bool compare_exchange(atom<T>& a, T& expected, T desired, Order order, Site site = Site::current()) const {
        const T old = modify(a, order, site, [&](T seen) { return seen == expected ? desired : seen; });
        const bool done = old == expected;
        expected = old;
        return done;
    }
    template <class T>
    T fetch_add(atom<T>& a, T value, Order order, Site site = Site::current()) const {
        return modify(a, order, site, [&](T seen) { return static_cast<T>(seen + value); });
    }
    template <class T>
    T fetch_sub(atom<T>& a, T value, Order order, Site site = Site::current()) const {
        return modify(a, order, site, [&](T seen) { return static_cast<T>(seen - value); });
    }
    template <class T>
    T fetch_or(atom<T>& a, T value, Order order, Site site = Site::current()) const {
        return modify(a, order, site, [&](T seen) { return static_cast<T>(seen | value); });
    }
    template <class T>
    T fetch_and(atom<T>& a, T value, Order order, Site site = Site::current()) const {
        return modify(a, order, site, [&](T seen) { return static_cast<T>(seen & value); });
    }
    template <class T>
    T fetch_min(atom<T>& a, T value, Order order, Site site = Site::current()) const {
        return modify(a, order, site, [&](T seen) { return value < seen ? value : seen; });
    }

private:
    static bool acquires(Order order) { return order == Order::acquire || order == Order::acq_rel; }
    static bool releases(Order order) { return order == Order::release || order == Order::acq_rel; }

    template <class T, class Change>
    T modify(atom<T>& a, Order order, const Site& site, Change&& change) const {
        if (releases(order)) card_->fence();
        const double us = card_->times().atomic + (acquires(order) ? 2 * card_->times().acquire : 0);
        return card_->access(
            us,
            [&] {
                card_->queue_at(&a);
                const T old = a.value;
                a.value = change(old);
                return old;
            },
            site);
    }

    Card* card_;
};

} // namespace bench
