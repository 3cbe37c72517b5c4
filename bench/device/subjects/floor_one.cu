// SPDX-License-Identifier: MIT
// One address, one atomic a warp.
#include "bump.cuh"

namespace bench {
namespace {

class FloorOne : public BumpSubject<Bump::one> {
public:
    static constexpr const char* name = "floor-one";
    static constexpr Role role = Role::floor;
    using BumpSubject::BumpSubject;
};

const Registered<FloorOne> registered;

} // namespace
} // namespace bench
