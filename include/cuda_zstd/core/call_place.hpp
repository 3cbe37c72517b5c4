// SPDX-License-Identifier: MIT
// Where in the source a call of a device pool was made.
// Invariant: known in a hardened build, by the caller's default argument; in any other it is empty and compiles to
// nothing. The texts are the program's own: on a device they lie in the memory of the module that made the call.
#pragma once

#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/core/hardening.hpp"

#include <cstdint>
#include <type_traits>

namespace cuda_zstd {

struct KnownPlace {
    const char* file = nullptr;
    const char* function = nullptr;
    std::uint32_t line = 0;

    static constexpr CUDA_ZSTD_HD KnownPlace here(const char* file = __builtin_FILE(),
                                                  const char* function = __builtin_FUNCTION(),
                                                  std::uint32_t line = __builtin_LINE()) {
        return {file, function, line};
    }
};

struct UnknownPlace {
    static constexpr CUDA_ZSTD_HD UnknownPlace here() { return {}; }
};

/// Where the call is that has this as its default argument: `CallPlace place = CallPlace::here()`.
using CallPlace = std::conditional_t<Hardening::any, KnownPlace, UnknownPlace>;

} // namespace cuda_zstd
