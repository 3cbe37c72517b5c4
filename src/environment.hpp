// SPDX-License-Identifier: MIT
// Reads variables of the environment.
// Invariant: a value is either read whole or refused by `configuration_error` with the variable, the value and what
// is allowed; an empty value counts as not set.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace cuda_zstd::detail {

std::optional<std::string> variable(const char* name);
/// A decimal number of bytes.
std::optional<std::size_t> variable_bytes(const char* name, std::size_t least, std::size_t most);
std::optional<double> variable_factor(const char* name, double least, double most);
[[noreturn]] void refuse(const char* name, const std::string& value, const std::string& allowed);
/// CUDA_ZSTD_POOL_HOST_THREADS (1 to 1024), else the machine's hardware threads.
unsigned host_threads_from_environment();
/// CUDA_ZSTD_POOL_HOST_DEVICES (1 to 16), else 1.
unsigned host_devices_from_environment();

} // namespace cuda_zstd::detail
