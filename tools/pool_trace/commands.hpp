// SPDX-License-Identifier: MIT
// The commands of pool-trace.
// Invariant: a command that returns has written all of its output; one that cannot throws.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace pool_trace {

/// Adds every command to `app`; the one that is chosen sets `chosen`, whose result is the exit status.
void add_commands(CLI::App& app, std::function<int()>& chosen);

} // namespace pool_trace
