// SPDX-License-Identifier: MIT
// Where live blocks were allocated.
//
// Invariant: an address has a site from its allocation to just before its free, where it is tracked at all. Which
// addresses `sample` tracks follows from the address alone, so a free knows without a look-up whether to look.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace cuda_zstd::detail {

/// What CUDA_ZSTD_POOL_TRACK asks for.
enum class TrackMode : std::uint8_t {
    off,
    /// One address in 128, by the address of the call alone.
    sample,
    /// Every block, with up to 8 callers.
    all,
};
/// Throws `configuration_error`.
TrackMode track_mode_from_environment();

/// Return addresses, the innermost first.
struct CallSite {
    static constexpr std::size_t most_frames = 8;
    const void* frames[most_frames] = {};
};

/// Members may be called from any thread.
class CallSites {
public:
    CallSites();
    ~CallSites();

    static bool is_sampled(const void* ptr) noexcept {
        return reinterpret_cast<std::uintptr_t>(ptr) * 0x9e3779b97f4a7c15u >> 57 == 0;
    }
    /// The call's own return address and those above it.
    static CallSite here(const void* return_address) noexcept;

    void add(const void* ptr, const CallSite& site) noexcept;
    /// Takes a block's site out; all zeros where it has none.
    CallSite take(const void* ptr) noexcept;
    void clear() noexcept;
    /// Every site, each under a lock: `visit` may not come back here.
    void for_each(const std::function<void(const void* ptr, const CallSite& site)>& visit) const;
    /// A line for each caller, or nothing. Symbols are looked up only here.
    std::string describe(const void* ptr) const;

private:
    struct Part;
    std::unique_ptr<Part[]> parts_;
};

/// "function+0x12 (file+0x3456)".
std::string symbol_of(const void* return_address);

} // namespace cuda_zstd::detail
