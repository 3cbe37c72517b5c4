// SPDX-License-Identifier: MIT
// One address for each SM, one atomic a warp.
#include "bump.cuh"

namespace bench {
namespace {

class FloorSm : public BumpSubject<Bump::sm> {
public:
    static constexpr const char* name = "floor-sm";
    static constexpr Role role = Role::floor;
    using BumpSubject::BumpSubject;
};

const Registered<FloorSm> registered;

} // namespace
} // namespace bench
