// SPDX-License-Identifier: MIT
// The exceptions of the host API.
// Invariant: each message names the culprit (variable, pointer, call) and what would have been right.
#pragma once

#include "cuda_zstd/core/config.hpp"

#include <new>
#include <stdexcept>
#include <string>

namespace cuda_zstd {

/// An option or an environment variable that cannot be read, is out of range or contradicts another.
class CUDA_ZSTD_API configuration_error : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

/// A call that the pool's state or the arguments forbid: a double, foreign or interior free, a reset under a
/// device pool. Nothing was changed.
class CUDA_ZSTD_API usage_error : public std::logic_error {
public:
    using std::logic_error::logic_error;
};

/// No memory: says what was asked for, what is free and how fragmented.
class CUDA_ZSTD_API out_of_memory : public std::bad_alloc {
public:
    explicit out_of_memory(std::string what) : what_(std::move(what)) {}
    const char* what() const noexcept override { return what_.c_str(); }

private:
    std::string what_;
};

/// A call of the CUDA runtime or driver failed.
class CUDA_ZSTD_API cuda_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

} // namespace cuda_zstd
