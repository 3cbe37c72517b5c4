// SPDX-License-Identifier: MIT
// One address, one atomic a thread.
#include "bump.cuh"

namespace bench {
namespace {

class BumpPerThread : public BumpSubject<Bump::per_thread> {
public:
    static constexpr const char* name = "bump-per-thread";
    static constexpr Role role = Role::other;
    using BumpSubject::BumpSubject;
};

const Registered<BumpPerThread> registered;

} // namespace
} // namespace bench
