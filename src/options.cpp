// SPDX-License-Identifier: MIT
#include "cuda_zstd/host/options.hpp"

#include "environment.hpp"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <thread>

namespace cuda_zstd {
namespace detail {

std::optional<std::string> variable(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
}

void refuse(const char* name, const std::string& value, const std::string& allowed) {
    throw configuration_error(std::string(name) + "=" + value + " is not allowed: " + allowed);
}

std::optional<std::size_t> variable_bytes(const char* name, std::size_t least, std::size_t most) {
    const auto text = variable(name);
    if (!text) return std::nullopt;
    const std::string allowed =
        "expected a whole decimal number from " + std::to_string(least) + " to " + std::to_string(most);
    std::size_t value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc{} || end != text->data() + text->size() || value < least || value > most)
        refuse(name, *text, allowed);
    return value;
}

std::optional<double> variable_factor(const char* name, double least, double most) {
    const auto text = variable(name);
    if (!text) return std::nullopt;
    double value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc{} || end != text->data() + text->size() || !(value >= least && value <= most))
        refuse(name, *text, "expected a number from 1.0 to 16.0");
    return value;
}

unsigned host_devices_from_environment() {
    return static_cast<unsigned>(variable_bytes("CUDA_ZSTD_POOL_HOST_DEVICES", 1, 16).value_or(1));
}

unsigned host_threads_from_environment() {
    if (const auto threads = variable_bytes("CUDA_ZSTD_POOL_HOST_THREADS", 1, 1024))
        return static_cast<unsigned>(*threads);
    return std::max(1u, std::thread::hardware_concurrency());
}

} // namespace detail

namespace {

constexpr std::size_t smallest_pool_bytes = std::size_t{2} << 20;
constexpr std::size_t largest_pool_bytes = std::size_t{1} << 46;

void require(bool holds, const char* option, const std::string& value, const std::string& allowed) {
    if (!holds)
        throw configuration_error(std::string("PoolOptions::") + option + " = " + value +
                                  " is not allowed: " + allowed);
}

} // namespace

PoolOptions validated(const PoolOptions& options) {
    const auto text = [](std::size_t bytes) { return std::to_string(bytes); };
    const std::size_t max_bytes = options.max_bytes;
    require(max_bytes == 0 || (max_bytes >= smallest_pool_bytes && max_bytes <= largest_pool_bytes), "max_bytes",
            text(max_bytes),
            "expected 0 (no limit) or " + text(smallest_pool_bytes) + " to " + text(largest_pool_bytes));
    require(max_bytes == 0 || options.initial_bytes <= max_bytes, "initial_bytes", text(options.initial_bytes),
            "expected at most max_bytes, which is " + text(max_bytes));
    require(options.initial_bytes <= largest_pool_bytes, "initial_bytes", text(options.initial_bytes),
            "expected at most " + text(largest_pool_bytes));
    require(options.growth_factor >= 1.0 && options.growth_factor <= 16.0, "growth_factor",
            std::to_string(options.growth_factor), "expected 1.0 to 16.0");
    require(options.growth != Growth::fixed_step ||
                (options.growth_step_bytes > 0 && options.growth_step_bytes <= largest_pool_bytes),
            "growth_step_bytes", text(options.growth_step_bytes), "expected 1 to " + text(largest_pool_bytes));
    require(options.small_limit_bytes >= 256 && options.small_limit_bytes <= (std::size_t{256} << 10),
            "small_limit_bytes", text(options.small_limit_bytes), "expected 256 to 262144");
    require(options.medium_limit_bytes >= options.small_limit_bytes &&
                options.medium_limit_bytes <= (std::size_t{8} << 20),
            "medium_limit_bytes", text(options.medium_limit_bytes),
            "expected small_limit_bytes, which is " + text(options.small_limit_bytes) + ", to 8388608");
    return options;
}

const char* to_string(Strategy strategy) noexcept {
    switch (strategy) {
    case Strategy::best_fit:
        return "best-fit";
    case Strategy::first_fit:
        return "first-fit";
    case Strategy::segregated:
        return "segregated";
    }
    return "unknown";
}

std::optional<BackendKind> backend_from_environment() {
    const auto name = detail::variable("CUDA_ZSTD_POOL_BACKEND");
    if (!name || *name == "auto") return std::nullopt;
    if (*name == "cuda") return BackendKind::cuda;
    if (*name == "host") return BackendKind::host;
    detail::refuse("CUDA_ZSTD_POOL_BACKEND", *name, "expected auto, cuda or host");
}

PoolOptions from_environment(const PoolOptions& options) {
    PoolOptions result = options;
    const auto max_bytes = detail::variable_bytes("CUDA_ZSTD_POOL_MAX_SIZE", smallest_pool_bytes, largest_pool_bytes);
    const auto initial_bytes = detail::variable_bytes("CUDA_ZSTD_POOL_INITIAL_SIZE", 0, largest_pool_bytes);
    if (max_bytes) result.max_bytes = *max_bytes;
    if (initial_bytes) result.initial_bytes = *initial_bytes;
    if (result.max_bytes != 0 && result.initial_bytes > result.max_bytes) {
        const std::string initial = std::to_string(result.initial_bytes);
        const std::string most = std::to_string(result.max_bytes);
        if (initial_bytes)
            detail::refuse("CUDA_ZSTD_POOL_INITIAL_SIZE", initial,
                           "expected at most CUDA_ZSTD_POOL_MAX_SIZE, which is " + most);
        if (max_bytes)
            detail::refuse("CUDA_ZSTD_POOL_MAX_SIZE", most, "expected at least the initial size, which is " + initial);
    }
    if (const auto factor = detail::variable_factor("CUDA_ZSTD_POOL_GROWTH_FACTOR", 1.0, 16.0)) {
        result.growth_factor = *factor;
        result.growth = Growth::geometric;
    }
    if (const auto name = detail::variable("CUDA_ZSTD_POOL_STRATEGY")) {
        if (*name == "best-fit")
            result.strategy = Strategy::best_fit;
        else if (*name == "first-fit")
            result.strategy = Strategy::first_fit;
        else if (*name == "segregated")
            result.strategy = Strategy::segregated;
        else
            detail::refuse("CUDA_ZSTD_POOL_STRATEGY", *name, "expected best-fit, first-fit or segregated");
    }
    if (const auto kind = backend_from_environment()) result.backend = kind;
    return validated(result);
}

} // namespace cuda_zstd
