// SPDX-License-Identifier: MIT
// From a device's clock to the host's.
//
// Invariant: two points at which both clocks are known, at most `uncertainty_ns` wrong; between them time runs evenly,
// outside of them as fast as on the host. The map never runs backwards.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cuda_zstd::detail {

class ClockMap {
public:
    /// The device said `device_ns` at some moment between the two of the host. Of the readings of one comparison the
    /// one with the shortest way counts.
    struct Reading {
        std::uint64_t device_ns = 0;
        std::uint64_t before_ns = 0;
        std::uint64_t after_ns = ~std::uint64_t{0};

        std::uint64_t way_ns() const noexcept { return after_ns - before_ns; }
        std::uint64_t host_ns() const noexcept { return before_ns + way_ns() / 2; }
    };

    /// The latest comparison; the one before is kept.
    void compare(const Reading& reading) noexcept {
        early_ = is_set_ ? late_ : reading;
        late_ = reading;
        is_set_ = true;
    }

    std::uint64_t host_ns(std::uint64_t device_ns) const noexcept {
        if (device_ns >= late_.device_ns) return late_.host_ns() + (device_ns - late_.device_ns);
        if (device_ns <= early_.device_ns) return early_.host_ns() - (early_.device_ns - device_ns);
        const std::uint64_t late_host_ns = std::max(late_.host_ns(), early_.host_ns());
        const double share =
            static_cast<double>(device_ns - early_.device_ns) / static_cast<double>(late_.device_ns - early_.device_ns);
        return early_.host_ns() +
               static_cast<std::uint64_t>(share * static_cast<double>(late_host_ns - early_.host_ns()));
    }
    std::uint64_t uncertainty_ns() const noexcept { return (late_.way_ns() + 1) / 2; }

private:
    bool is_set_ = false;
    Reading early_;
    Reading late_;
};

} // namespace cuda_zstd::detail
