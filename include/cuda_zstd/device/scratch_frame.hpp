// SPDX-License-Identifier: MIT
// Scratch frames of a warp: bump memory that is given back as a whole at the end of its scope.
//
// Invariant: the frame owns a list of blocks taken from the pool, the newest first; allocate moves a cursor that every
// lane holds in registers, so it costs no atomic and no access to memory until the region is used up. All lanes of the
// warp construct, call and destroy together, with the same arguments.
//
// Progress: what BasicPoolRef says, in the calls that go to the pool; no call waits for another warp's frame.
#pragma once

#include "cuda_zstd/core/bits.hpp"
#include "cuda_zstd/core/config.hpp"
#include "cuda_zstd/device/pool_ref.hpp"

#include <cstddef>
#include <cstdint>

namespace cuda_zstd {

template <class Env, class Pool = BasicPoolRef<Env>>
class ScratchFrame {
    struct alignas(16) Header {
        Header* older;
    };

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
        if (rounded > at_.end - at_.next) {
            Header* const region = take(region_bytes_);
            if (region == nullptr) return nullptr;
            at_.region = reinterpret_cast<char*>(region);
            at_.next = sizeof(Header);
            at_.end = region_bytes_;
        }
        char* const block = at_.region + at_.next;
        at_.next += rounded;
        return block;
    }

    /// Where the frame stands: what was allocated before it outlives a rewind to it.
    class Mark {
        friend class ScratchFrame;
        Header* newest = nullptr;
        char* region = nullptr; ///< the region that allocate takes from
        std::size_t next = 0;   ///< offsets in it
        std::size_t end = 0;
        std::size_t taken_bytes = 0;
    };
    /// Cost: none.
    CUDA_ZSTD_HD Mark mark() const { return at_; }
    /// Gives back what was allocated since the mark, which no earlier rewind may have passed: frames within the frame.
    /// Cost: one free for each block taken from the pool since, often none.
    CUDA_ZSTD_HD void rewind(const Mark& to) {
        while (at_.newest != to.newest) {
            Header* const older = at_.newest->older;
            pool_.deallocate_warp(env_, at_.newest);
            at_.newest = older;
        }
        at_ = to;
    }
    /// Gives everything back to the pool now; the frame may be used again. Cost: one free for each region.
    CUDA_ZSTD_HD void release() { rewind(Mark{}); }

    /// Bytes that the frame holds of the pool.
    CUDA_ZSTD_HD std::size_t taken_bytes() const { return at_.taken_bytes; }

private:
    static constexpr std::size_t alignment = 16;

    /// A block of the pool, linked to the others, or null.
    CUDA_ZSTD_RARE Header* take(std::size_t bytes) {
        auto* const taken = static_cast<Header*>(pool_.allocate_warp(env_, bytes));
        if (taken == nullptr) return nullptr;
        if (env_.lane() == 0) taken->older = at_.newest;
        env_.sync(whole_warp<Env>);
        at_.newest = taken;
        at_.taken_bytes += bytes;
        return taken;
    }

    Env& env_;
    const Pool& pool_;
    std::size_t region_bytes_;
    Mark at_;
};

/// A frame within a warp's frame: what is allocated from the frame while it lives is given back at the end of its
/// scope.
template <class Frame>
class ScratchScope {
public:
    explicit CUDA_ZSTD_HD ScratchScope(Frame& frame) : frame_(frame), mark_(frame.mark()) {}
    ScratchScope(const ScratchScope&) = delete;
    ScratchScope& operator=(const ScratchScope&) = delete;
    CUDA_ZSTD_HD ~ScratchScope() { frame_.rewind(mark_); }

private:
    Frame& frame_;
    typename Frame::Mark mark_;
};

} // namespace cuda_zstd
