// SPDX-License-Identifier: MIT
// Scratch frames: bump memory of one warp, given back as a whole at the end of its scope.
//
// Invariant: the frame owns a list of regions taken from the pool, the newest first; allocate moves a cursor that every
// lane holds in registers, so it costs no atomic and no access to memory until the region is used up. All lanes of the
// warp construct, call and destroy together, with the same arguments.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/device/pool_ref.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

template <class Env, class Pool = BasicPoolRef<Env>>
class ScratchFrame {
public:
    /// Takes nothing yet. The first allocation takes a region of `region_bytes` (a power of two serves the heap best).
    CUDA_ZSTD_HD ScratchFrame(Env& env, const Pool& pool, std::size_t region_bytes)
        : env_(env), pool_(pool), region_bytes_(region_bytes < 64 ? 64 : region_bytes) {}
    ScratchFrame(const ScratchFrame&) = delete;
    ScratchFrame& operator=(const ScratchFrame&) = delete;
    CUDA_ZSTD_HD ~ScratchFrame() { release(); }

    /// `bytes` for the whole warp, 16 B aligned: every lane receives the same pointer; null when the pool is full, and
    /// then the frame is as it was. Cost: none, or one allocation of the pool when the region is used up; a request
    /// that does not fit in a region gets a block of its own and leaves the region as it is.
    CUDA_ZSTD_HD void* allocate(std::size_t bytes) {
        const std::size_t rounded = round_up<std::size_t>(bytes, alignment);
        if (bytes == 0 || rounded + sizeof(Header) < bytes) return nullptr;
        if (rounded + sizeof(Header) > region_bytes_) {
            Header* const own = take(rounded + sizeof(Header));
            return own == nullptr ? nullptr : own + 1;
        }
        if (rounded > end_ - next_) {
            Header* const region = take(region_bytes_);
            if (region == nullptr) return nullptr;
            region_ = reinterpret_cast<char*>(region);
            next_ = sizeof(Header);
            end_ = region_bytes_;
        }
        char* const block = region_ + next_;
        next_ += rounded;
        return block;
    }

    /// Gives everything back to the pool now; the frame may be used again. Cost: one free for each region.
    CUDA_ZSTD_HD void release() {
        while (newest_ != nullptr) {
            Header* const older = newest_->older;
            pool_.deallocate_warp(env_, newest_);
            newest_ = older;
        }
        next_ = end_ = 0;
        region_ = nullptr;
        taken_bytes_ = 0;
    }

    /// Bytes that the frame holds of the pool.
    CUDA_ZSTD_HD std::size_t taken_bytes() const { return taken_bytes_; }

private:
    static constexpr std::size_t alignment = 16;
    struct alignas(16) Header {
        Header* older;
    };

    /// A block of the pool, linked to the others, or null.
    CUDA_ZSTD_RARE Header* take(std::size_t bytes) {
        auto* const taken = static_cast<Header*>(pool_.allocate_warp(env_, bytes));
        if (taken == nullptr) return nullptr;
        if (env_.lane() == 0) taken->older = newest_;
        env_.sync(low_bits(Env::warp_lanes));
        newest_ = taken;
        taken_bytes_ += bytes;
        return taken;
    }

    Env& env_;
    const Pool& pool_;
    std::size_t region_bytes_;
    Header* newest_ = nullptr;
    char* region_ = nullptr; ///< the region that allocate takes from
    std::size_t next_ = 0;   ///< offsets in it
    std::size_t end_ = 0;
    std::size_t taken_bytes_ = 0;
};

} // namespace cuda_zstd
