// SPDX-License-Identifier: MIT
// Invariant: every range is other addresses, and nothing is behind them: for what a pool does with memory it never
// uses.
#pragma once

#include "cuda_zstd/host/arena_source.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

/// Addresses with nothing behind them.
class Addresses : public ArenaSource {
public:
    const char* name() const noexcept override { return "addresses"; }
    bool grows() const noexcept override { return true; }
    std::size_t granularity_bytes() const noexcept override { return std::size_t{64} << 10; }
    std::size_t total_bytes() const override { return std::size_t{1} << 43; }
    AddressRange reserve(std::size_t bytes) override {
        auto* base = reinterpret_cast<std::byte*>(next_);
        next_ += bytes;
        return {base, bytes};
    }
    void map(const AddressRange&, std::size_t, std::size_t) override {}
    void unmap(const AddressRange&, std::size_t, std::size_t) noexcept override {}
    void release(const AddressRange&) noexcept override {}

private:
    std::uintptr_t next_ = std::uintptr_t{1} << 45;
};

} // namespace cuda_zstd
